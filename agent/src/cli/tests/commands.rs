//! Requests, answers and exit codes.

use super::fake::{Fake, run};
use crate::api::{CountersView, ErrorKind, ErrorView, PodName, PullLayerView, PulledView, Request, Response};
use crate::cli::args::Cli;
use crate::cli::finish;
use crate::cli::streams::Streams;
use clap::{CommandFactory, Parser};
use orlop_wire::frame;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex};

fn refusal(kind: ErrorKind) -> Response {
    Response::Error(ErrorView { kind, message: "pod default/web: said the agent".into() })
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("  4  the agent does not answer"), "{help}");
}

#[test]
fn the_agents_refusals_decide_the_exit_code() {
    let check = |kind, code| {
        let outcome = Fake::saying(refusal(kind)).run(&["describe", "web"]);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert_eq!(outcome.stderr, "error: pod default/web: said the agent\n");
        assert_eq!(outcome.stdout, "");
    };
    check(ErrorKind::NotFound, 3);
    check(ErrorKind::Failed, 1);
    check(ErrorKind::Invalid, 2);
}

#[test]
fn nobody_on_the_socket_is_four_and_says_what_to_check() {
    let outcome = run(Path::new("/nonexistent/orlop.sock"), &["ps"]);
    assert_eq!(outcome.code, 4);
    assert_eq!(
        outcome.stderr,
        "error: the agent does not answer on /nonexistent/orlop.sock: No such file or directory (os error 2)\n\
         Is the agent running? systemctl status orlop; another node: --socket PATH or ORLOP_SOCKET.\n"
    );
}

#[test]
fn an_agent_that_hangs_up_is_four() {
    let fake = Fake::start(|_, _, _| None);
    let outcome = fake.run(&["ps"]);
    assert_eq!(outcome.code, 4);
    assert!(outcome.stderr.contains("went away before it had answered"), "{outcome:?}");
}

#[test]
fn another_answer_than_asked_for_is_one() {
    let outcome = Fake::saying(Response::Images(Vec::new())).run(&["ps"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("orlop version"), "{outcome:?}");
}

#[test]
fn pods_are_named_three_ways() {
    let check = |line: &[&str], want: Result<(&str, &str), u8>| {
        let seen = Arc::new(Mutex::new(None));
        let sees = Arc::clone(&seen);
        let fake = Fake::start(move |_, request, _| {
            *sees.lock().unwrap() = Some(request);
            Some(refusal(ErrorKind::NotFound))
        });
        let outcome = fake.run(line);
        let asked = seen.lock().unwrap().take();
        match want {
            Ok((namespace, name)) => {
                let pod = PodName { namespace: namespace.into(), name: name.into() };
                assert_eq!(asked, Some(Request::Pod { pod }), "{line:?}");
            }
            Err(code) => assert_eq!((asked, outcome.code), (None, code), "{line:?}"),
        }
    };
    check(&["describe", "web"], Ok(("default", "web")));
    check(&["describe", "web", "-n", "prod"], Ok(("prod", "web")));
    check(&["describe", "prod/web"], Ok(("prod", "web")));
    check(&["describe", "prod/web", "-n", "prod"], Ok(("prod", "web")));
    check(&["describe", "prod/web", "-n", "test"], Err(2));
}

#[test]
fn nonsense_is_clap_s_two() {
    let check = |line: &[&str]| {
        let error = Cli::try_parse_from([&["orlop"], line].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line:?}");
    };
    check(&["describe", "a/b/c"]);
    check(&["describe", "/web"]);
    check(&["logs", "web", "--since", "yesterday"]);
    check(&["logs", "web", "--previous", "--follow"]);
    check(&["exec", "web"]);
    check(&["exec", "web", "ls"]);
    check(&["agent", "--pod-cidr", "10.1.0.0/33"]);
}

#[test]
fn nothing_to_list_is_said_on_stderr_only() {
    let check = |response, line: &[&str], stderr: &str, header: &str| {
        let outcome = Fake::saying(response).run(line);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, stderr), "{line:?}");
        assert!(outcome.stdout.starts_with(header), "{outcome:?}");
    };
    check(Response::Pods(Vec::new()), &["ps"], "No pods.\n", "NAMESPACE   NAME   READY");
    check(Response::Pods(Vec::new()), &["ps", "-c"], "No pods.\n", "NAMESPACE   POD   CONTAINER");
    check(Response::Pods(Vec::new()), &["ps", "-n", "a"], "No pods in namespace a.\n", "NAMESPACE");
    check(Response::Pods(Vec::new()), &["ps", "-o", "json"], "No pods.\n", "[]\n");
    check(Response::Services(Vec::new()), &["services", "-o", "yaml"], "No services.\n", "[]\n");
    check(
        Response::Images(Vec::new()),
        &["images"],
        "No images. Get one: orlop pull IMAGE, or orlop load PATH.\n",
        "NAME   ID",
    );
    check(Response::Counters(CountersView::default()), &["counters"], "No pods with counters.\n", "NAMESPACE");
}

#[test]
fn a_relative_path_is_loaded_as_an_absolute_one() {
    let fake = Fake::start(|_, request, _| {
        let Request::Load { path, name } = request else { panic!("{request:?}") };
        assert_eq!(path, std::env::current_dir().unwrap().join("some/app.tar"));
        assert_eq!(name.as_deref(), Some("app:1"));
        Some(Response::Images(Vec::new()))
    });
    assert_eq!(fake.run(&["load", "some/app.tar", "--name", "app:1"]).code, 0);
}

#[test]
fn a_reader_that_left_ends_the_command_in_silence() {
    let fake = Fake::saying(Response::Pods(Vec::new()));
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let errors = fake.dir.path().join("err");
    let streams = Streams {
        stdin: File::open("/dev/null").unwrap(),
        stdout: writer.into(),
        stderr: File::create(&errors).unwrap(),
    };
    let cli = super::fake::parse(&fake.socket(), &["ps"]);
    assert_eq!(finish(cli, &streams), 141);
    assert_eq!(fs::read_to_string(errors).unwrap(), "");
}

#[test]
fn completions_and_version_need_no_agent() {
    let nowhere = Path::new("/nonexistent/orlop.sock");
    for shell in ["bash", "zsh", "fish"] {
        let outcome = run(nowhere, &["completions", shell]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("describe"), "{shell}");
    }
    let outcome = run(nowhere, &["version"]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.contains("does not answer on /nonexistent/orlop.sock"), "{outcome:?}");
}

#[test]
fn a_pull_tells_of_each_layer_once_a_phase() {
    let layer = |phase: &str| PullLayerView {
        digest: format!("sha256:{}", "a".repeat(64)),
        phase: phase.to_owned(),
        done_bytes: 0,
        total_bytes: 9,
    };
    let pulled = PulledView {
        name: "app:1".into(),
        image_id: "docker.io/library/app@sha256:bb".into(),
        id: "sha256:cc".into(),
        size_bytes: 2048,
        layers: 1,
        took_ms: 1250,
    };
    let fake = Fake::start(move |stream, request, _| {
        let Request::Pull { image, credential: Some(credential) } = request else { panic!("{request:?}") };
        assert_eq!((image.as_str(), credential.username.as_str(), credential.password.as_str()), ("app:1", "u", "p:q"));
        assert!(!format!("{credential:?}").contains("p:q"));
        for phase in ["waiting", "downloading", "downloading", "done"] {
            frame::send(stream, &Response::PullProgress(vec![layer(phase)]), &[]).unwrap();
        }
        Some(Response::Pulled(pulled.clone()))
    });
    let outcome = fake.run(&["pull", "app:1", "--creds", "u:p:q"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let phases: Vec<&str> = outcome.stderr.lines().filter_map(|line| line.strip_prefix("aaaaaaaaaaaa: ")).collect();
    assert_eq!(phases, ["waiting", "downloading", "done"], "{outcome:?}");
    assert_eq!(outcome.stdout, "app:1\ndocker.io/library/app@sha256:bb\n2.00KiB packed, 1 layer(s), 1.2 s\n");
    let outcome = fake.run(&["pull", "app:1", "--creds", "u:p:q", "-o", "json"]);
    assert!(outcome.stdout.contains("\"took_ms\": 1250"), "{outcome:?}");
    assert_eq!(fake.run(&["pull", "app:1", "--creds", ":p"]).code, 2);
}
