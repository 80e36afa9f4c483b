//! A client that uses one source port for a NodePort and for the pod behind it.

mod world;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use orlop_model::Protocol::Tcp;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;
use world::World;
use world::nodes::{Cluster, Way};
use world::peers::serve_tcp;
use world::service::Service;

/// Connects from this port and reads the first byte of the greeting.
fn from_port(port: u16, to: &str) -> std::io::Result<TcpStream> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    let local = SocketAddr::from(([198, 51, 100, 1], port));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(local))?;
    let limit = nix::sys::time::TimeVal::new(5, 0);
    setsockopt(&fd, sockopt::SendTimeout, &limit)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to.parse::<SocketAddr>().unwrap()))?;
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

#[test]
fn one_source_port_for_a_node_port_and_for_the_pod_behind_it() {
    World::run("same-port", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let pod = cluster.node(1).pod(2);
        serve_tcp(&pod, "10.1.1.2:8080", "b");
        cluster
            .serve(|_| vec![Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.1.2:8080")]).node_port(30080).sets(1, 0)]);
        cluster.route("10.1.1.0/24", 1);
        let (front, direct) = ("192.0.2.11:30080", "10.1.1.2:8080");
        cluster.client.run(|| {
            // Closed before the next begins, in either order.
            for (port, order) in [(5001, [front, direct]), (5002, [direct, front])] {
                for to in order {
                    drop(from_port(port, to).unwrap_or_else(|error| panic!("{port} to {to}: {error}")));
                }
            }
        });
    });
}
