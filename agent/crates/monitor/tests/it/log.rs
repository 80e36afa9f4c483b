//! Logs of real containers.

use crate::world::World;
use orlop_wire::LogTarget;
use std::fs;

#[tokio::test]
async fn every_line_is_there_in_order_across_rotation() {
    let mut world = World::new().await;
    let path = world.path("logs/rotated.log");
    let target = LogTarget { path: path.clone(), max_bytes: 100_000, max_files: 100 };
    let create = world.container("seq 1 20000", |_, create, _| create.log = target);
    world.start(create).await;
    world.exited().await;
    let mut files: Vec<_> = fs::read_dir(world.path("logs")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() > 5, "{files:?}");
    // The current file has the shortest name and comes last.
    files.sort();
    files.rotate_left(1);
    let all: String = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    let mut next = 1;
    for line in all.lines() {
        let mut fields = line.splitn(4, ' ');
        fields.next().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!((fields.next(), fields.next()), (Some("stdout"), Some("F")));
        assert_eq!(fields.next(), Some(next.to_string().as_str()));
        next += 1;
    }
    assert_eq!(next, 20_001);
    world.end().await;
}

#[tokio::test]
async fn output_right_before_the_end_is_not_lost() {
    let mut world = World::new().await;
    for _ in 0..10 {
        let record = world.run("seq 1 3000; echo last >&2").await;
        world.exited().await;
        let log = world.log(&record);
        assert!(log.contains("stdout F 3000\n") && log.contains("stderr F last\n"), "{} bytes", log.len());
        assert_eq!(log.lines().count(), 3001);
    }
    world.end().await;
}

#[tokio::test]
async fn a_terminal_is_logged() {
    let mut world = World::new().await;
    let create = world.container("test -t 1 && echo terminal", |c, _, _| c.tty = true);
    let record = world.start(create).await;
    world.exited().await;
    assert!(world.log(&record).contains("stdout F terminal"), "{record:?} {}", world.log(&record));
    world.end().await;
}

#[tokio::test]
async fn a_user_may_open_its_own_output_by_name() {
    let mut world = World::new().await;
    let create = world.container("echo by name >/dev/stdout", |c, _, _| c.security.run_as_user = Some(1000));
    let record = world.start(create).await;
    world.exited().await;
    assert!(world.log(&record).contains("stdout F by name"), "{}", world.log(&record));
    world.end().await;
}
