//! An audit finds whatever else was written, and a resync takes it back.

use crate::listed;
use crate::scripts::audit;
use orlop_lb::{Audit, Cluster, Compiler, LbTables, ServiceSettings};

/// Policies, ranges, a list of two blocks and one of no backends, with and without
/// Maglev tables.
fn compiler(maglev: Option<u32>) -> (Cluster, Compiler) {
    let mut cluster = Cluster::new(listed::NODE);
    let many: Vec<String> = (0..20).map(|n| format!("10.1.0.{n}{}", if n % 3 == 0 { ",here" } else { "" })).collect();
    let slice: Vec<&str> = ["80"].into_iter().chain(many.iter().map(String::as_str)).collect();
    cluster.apply_service(listed::service(
        "a",
        &["10.96.0.7", "80@30080", "lb=192.0.2.9", "ranges=10.0.0.0/8", "etp-local"],
    ));
    cluster.apply_slice(listed::slice("a-1", "a", &slice));
    cluster.apply_service(listed::service("b", &["10.96.0.8", "80"]));
    cluster.apply_service(listed::service("c", &["10.96.0.9", "80", "affinity=60"]));
    cluster.apply_slice(listed::slice("c-1", "c", &["81", "10.1.0.4", "10.1.0.5,terminating"]));
    let settings = ServiceSettings { maglev, dsr: false };
    let (compiler, plan) = Compiler::restore_with(settings, LbTables::default(), cluster.inputs(), []);
    assert!(!plan.is_empty());
    (cluster, compiler)
}

/// One change of the maps: what the audit says of it, and that a resync undoes it.
fn check(compiler: &mut Compiler, wanted: (u64, u64), change: impl FnOnce(&mut LbTables)) {
    let good = compiler.tables();
    let mut maps = good.clone();
    change(&mut maps);
    assert_ne!(maps, good);
    let report = audit(compiler, &maps);
    assert_eq!((report.wrong, report.missing, report.is_good()), (wanted.0, wanted.1, false));
    for op in compiler.resync(maps.clone()).0 {
        maps.apply(&op);
    }
    assert_eq!(maps, compiler.tables());
    assert!(audit(compiler, &maps).is_good());
}

#[test]
fn whatever_else_was_written() {
    for maglev in [None, Some(251)] {
        let (_cluster, mut compiler) = compiler(maglev);
        let tables = compiler.tables();
        let report = audit(&compiler, &tables);
        let all = tables.frontends.len() + tables.slots.len() + tables.backends.len() + tables.source_ranges.len();
        assert_eq!((report.seen, report.is_good()), (all as u64, true));

        for key in tables.frontends.keys() {
            check(&mut compiler, (0, 1), |maps| {
                maps.frontends.remove(key);
            });
            check(&mut compiler, (1, 1), |maps| maps.frontends.get_mut(key).unwrap().affinity_s += 1);
        }
        let frontend = *tables.frontends.values().next().unwrap();
        let other = orlop_lb::frontend_key("10.96.0.99".parse().unwrap(), 80, orlop_model::Protocol::Tcp);
        check(&mut compiler, (1, 0), |maps| {
            maps.frontends.insert(other, frontend);
        });

        for key in compiler.tables().slots.into_keys() {
            check(&mut compiler, (0, 1), |maps| {
                maps.slots.remove(&key);
            });
            // What is there now may have another epoch.
            let Some(key) = compiler.tables().slots.into_keys().find(|now| now.block == key.block) else { continue };
            check(&mut compiler, (1, 1), |maps| maps.slots.get_mut(&key).unwrap()[3] = 77);
        }
        let (key, block) = compiler.tables().slots.into_iter().next_back().unwrap();
        let beyond = orlop_ebpf_abi::SlotKey { block: key.block + 1, ..key };
        check(&mut compiler, (1, 0), |maps| {
            maps.slots.insert(beyond, block);
        });
        let old = orlop_ebpf_abi::SlotKey { epoch: key.epoch + 9, ..key };
        check(&mut compiler, (1, 0), |maps| {
            maps.slots.insert(old, block);
        });

        let (id, backend) = compiler.tables().backends.into_iter().next().unwrap();
        check(&mut compiler, (0, 1), |maps| {
            maps.backends.remove(&id);
        });
        let (id, _) = compiler.tables().backends.into_iter().next().unwrap();
        check(&mut compiler, (1, 1), |maps| maps.backends.get_mut(&id).unwrap().state ^= 1);
        let stray = orlop_ebpf_abi::Backend { port: [9, 9], ..backend };
        check(&mut compiler, (1, 0), |maps| {
            maps.backends.insert(999, stray);
        });

        let range = *compiler.tables().source_ranges.iter().next().unwrap();
        check(&mut compiler, (0, 1), |maps| {
            maps.source_ranges.remove(&range);
        });
        let other = orlop_ebpf_abi::SourceRangeKey { bits: range.bits - 1, ..range };
        check(&mut compiler, (1, 0), |maps| {
            maps.source_ranges.insert(other);
        });
    }
}

/// Plans made in the middle: what is wrong is still told, what is missing cannot be.
#[test]
fn changes_meanwhile() {
    let (mut cluster, mut compiler) = compiler(None);
    let before = compiler.tables();
    let mut audit = Audit::new();
    for (key, frontend) in &before.frontends {
        assert!(audit.frontend(&compiler, key, frontend));
    }
    for key in cluster.apply_service(listed::service("b", &["10.96.0.10", "80"])) {
        assert!(!compiler.set_service(&cluster.input(&key).unwrap()).is_empty());
    }
    for (key, block) in &compiler.tables().slots {
        assert!(audit.slots(&compiler, key, block));
    }
    let report = audit.finish(&compiler);
    assert_eq!((report.wrong, report.missing), (0, 0));
}
