//! Load on a service, made inside the client's namespaces by order of the bench: one
//! order a line, one line of numbers back. And the server that answers it.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes of a request and of its answer.
const REQUEST_BYTES: usize = 64;
/// First byte of a request that is answered with itself.
const ECHO: u8 = b'e';
/// First byte of a request after which all bytes are counted until the client has said all.
const COUNT: u8 = b's';
/// Bytes of one write on a stream.
const WRITE_BYTES: usize = 128 * 1024;
/// Connections that a server works on at once; the others wait to be accepted.
const SERVED_AT_ONCE: usize = 8;
/// Clients at once when requests are counted.
const CLIENTS: usize = 4;
/// A connect that takes longer has failed.
const CONNECT_WITHIN_S: i64 = 10;

/// Keeps this process on the last of its CPUs. Clients and servers share it, so that what
/// is measured is the work on the way between them: two that share a CPU at one moment and
/// not at the next answer each other in 17 or in 35 µs.
fn stay() -> Result<(), String> {
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own).map_err(|error| format!("find the CPUs: {error}"))?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).ok_or("no CPU")?;
    let mut one = CpuSet::new();
    one.set(last).and_then(|()| sched_setaffinity(own, &one)).map_err(|error| format!("stay on CPU {last}: {error}"))
}

/// From now on this process interrupts nobody when it wakes: a client's connect() is not
/// longer by what the server does once the client's last packet has come.
fn be_patient() -> Result<(), String> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(format!("schedule as a batch: {}", io::Error::last_os_error())) }
}

/// Serves until stdin is closed.
pub fn serve(address: SocketAddr) -> Result<(), String> {
    stay()?;
    be_patient()?;
    let listener = TcpListener::bind(address).map_err(|error| format!("bind {address}: {error}"))?;
    println!("listening");
    io::stdout().flush().map_err(|error| error.to_string())?;
    for _ in 0..SERVED_AT_ONCE {
        let listener = listener.try_clone().map_err(|error| error.to_string())?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that resets the connection is done with it.
                let _ = answer(stream);
            }
        });
    }
    // Ends with the bench that started it.
    let _ = io::stdin().lines().count();
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST_BYTES];
    loop {
        stream.read_exact(&mut request)?;
        if request[0] == COUNT {
            let mut bytes = vec![0; WRITE_BYTES];
            let mut total = 0_u64;
            loop {
                match stream.read(&mut bytes)? {
                    0 => return stream.write_all(&total.to_be_bytes()),
                    length => total += length as u64,
                }
            }
        }
        stream.write_all(&request)?;
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// So many connects, one after the other: nanoseconds of each.
    Connect(usize),
    /// So many requests, each on a connection of its own, by four clients at once: nanoseconds in all.
    Short(usize),
    /// So many requests on one connection, one after the other: nanoseconds of each.
    Kept(usize),
    /// Bytes through one connection for so long: how many arrived, and nanoseconds until they had.
    Stream(Duration),
}

impl Order {
    /// As a line for [`work`].
    pub fn line(self, to: SocketAddrV4) -> String {
        match self {
            Self::Connect(count) => format!("connect {count} {to}\n"),
            Self::Short(count) => format!("short {count} {to}\n"),
            Self::Kept(count) => format!("kept {count} {to}\n"),
            Self::Stream(time) => format!("stream {} {to}\n", time.as_millis()),
        }
    }

    fn parse(line: &str) -> Option<(Self, SocketAddrV4)> {
        let [verb, amount, to] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let amount: usize = amount.parse().ok()?;
        let order = match verb {
            "connect" => Self::Connect(amount),
            "short" => Self::Short(amount),
            "kept" => Self::Kept(amount),
            "stream" => Self::Stream(Duration::from_millis(amount as u64)),
            _ => return None,
        };
        Some((order, to.parse().ok()?))
    }
}

/// Carries out orders from stdin until it is closed.
pub fn work() -> Result<(), String> {
    stay()?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let (order, to) = Order::parse(&line).ok_or_else(|| format!("no order: {line:?}"))?;
        let numbers = carry_out(order, to).map_err(|error| format!("{line}: {error}"))?;
        let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
        println!("{}", text.join(" "));
    }
    Ok(())
}

fn carry_out(order: Order, to: SocketAddrV4) -> io::Result<Vec<u64>> {
    match order {
        Order::Connect(count) => (0..count).map(|_| connect(to).map(|(_, took)| nanoseconds(took))).collect(),
        Order::Short(count) => {
            let client = || -> io::Result<()> {
                for _ in 0..count / CLIENTS {
                    ask(&mut connect(to)?.0)?;
                }
                Ok(())
            };
            let began = Instant::now();
            std::thread::scope(|scope| {
                let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
                clients.into_iter().try_for_each(|one| one.join().expect("a client"))
            })?;
            Ok(vec![nanoseconds(began.elapsed())])
        }
        Order::Kept(count) => {
            let mut stream = connect(to)?.0;
            stream.set_nodelay(true)?;
            let mut one = || {
                let began = Instant::now();
                ask(&mut stream).map(|()| nanoseconds(began.elapsed()))
            };
            (0..count).map(|_| one()).collect()
        }
        Order::Stream(time) => stream(to, time),
    }
}

fn stream(to: SocketAddrV4, time: Duration) -> io::Result<Vec<u64>> {
    let mut stream = connect(to)?.0;
    stream.write_all(&[COUNT; REQUEST_BYTES])?;
    let bytes = vec![0; WRITE_BYTES];
    let began = Instant::now();
    while began.elapsed() < time {
        stream.write_all(&bytes)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(vec![u64::from_be_bytes(total), nanoseconds(began.elapsed())])
}

/// One request and its answer.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [ECHO; REQUEST_BYTES];
    stream.write_all(&bytes)?;
    stream.read_exact(&mut bytes)
}

/// A connection and the time of the system call alone. It will be reset when dropped, so that
/// no port stays in TIME_WAIT.
pub fn connect(to: SocketAddrV4) -> io::Result<(TcpStream, Duration)> {
    // SAFETY: takes three integers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(CONNECT_WITHIN_S))?;
    let address = nix::sys::socket::SockaddrIn::from(to);
    let began = Instant::now();
    nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
    let took = began.elapsed();
    Ok((socket.into(), took))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
