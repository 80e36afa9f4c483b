//! The test programs' object, one program at a time, on frames for the loopback
//! device of the test's own namespace: it is never attached, nothing leaves.

use aya::maps::{Array, HashMap, MapData};
use aya::programs::{SchedClassifier, TcAttachType, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/orlop-ebpf-pieces.o"));

/// The function had nothing to do with the frame.
pub const NEXT: i32 = -1;
/// The function refused the frame.
pub const BAD: i32 = 101;
pub const SHOT: i32 = 2;
pub const REDIRECT: i32 = 7;
/// `PACKET_HOST` is what the kernel makes of a frame to the loopback's address.
pub const OUR_MAC: [u8; 6] = [0; 6];
pub const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 7, 7];

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Arguments {
    pub addr: [u8; 16],
    pub port: [u8; 2],
    pub mac: [u8; 6],
    pub number: u32,
    pub side: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Read {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub src_port: [u8; 2],
    pub dst_port: [u8; 2],
    pub proto: u32,
}

// SAFETY: plain bytes without padding.
unsafe impl Pod for Arguments {}
// SAFETY: as above.
unsafe impl Pod for Read {}

pub struct Piece {
    object: Ebpf,
    name: &'static str,
}

impl Piece {
    /// Loads the program `name`.
    pub fn load(name: &'static str) -> Self {
        assert!(!OBJECT.is_empty(), "ORLOP_EBPF_DIR has no test programs: build them here, without that variable");
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for lru in ["FLOWS", "UDP_PEERS", "SOCKETS", "AFFINITY", "FRAGMENTS"] {
            loader.map_max_entries(lru, 1024);
        }
        let mut object = loader.load(OBJECT).unwrap();
        let program: &mut SchedClassifier = object.program_mut(name).expect(name).try_into().unwrap();
        program.load().unwrap_or_else(|err| panic!("{name}: {err:#?}"));
        Self { object, name }
    }

    pub fn arguments(&mut self, arguments: Arguments) -> &mut Self {
        let mut map: Array<&mut MapData, Arguments> = self.object.map_mut("ARGUMENTS").unwrap().try_into().unwrap();
        map.set(0, arguments, 0).unwrap();
        self
    }

    /// Attaches the program to what arrives on a device of the calling thread's namespace.
    pub fn attach(&mut self, device: &str) {
        let program: &mut SchedClassifier = self.object.program_mut(self.name).unwrap().try_into().unwrap();
        program.attach(device, TcAttachType::Ingress).unwrap();
    }

    /// What the last run has read.
    pub fn result(&mut self) -> Read {
        let map: Array<&mut MapData, Read> = self.object.map_mut("RESULT").unwrap().try_into().unwrap();
        map.get(&0, 0).unwrap()
    }

    /// `BANDWIDTH`: interface and direction to arrival, burst and time a byte.
    pub fn bandwidth(&mut self) -> HashMap<&mut MapData, [u32; 2], [u64; 3]> {
        self.object.map_mut("BANDWIDTH").unwrap().try_into().unwrap()
    }

    /// Runs it `times` on each of two threads at once.
    pub fn run_twice_at_once(&mut self, frame: &[u8], times: u32) {
        let program: &mut SchedClassifier = self.object.program_mut(self.name).unwrap().try_into().unwrap();
        let program = &*program;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let options = TestRunOptions { data_in: Some(frame), repeat: times, ..Default::default() };
                    assert_eq!(program.test_run(options).unwrap().return_value as i32, NEXT);
                });
            }
        });
    }

    /// `PODS`, whose values no leaf reads.
    pub fn pods(&mut self) -> HashMap<&mut MapData, [u8; 16], [u8; 16]> {
        self.object.map_mut("PODS").unwrap().try_into().unwrap()
    }

    /// Verdict and frame after a run.
    pub fn run(&mut self, frame: &[u8]) -> (i32, Vec<u8>) {
        let program: &mut SchedClassifier = self.object.program_mut(self.name).unwrap().try_into().unwrap();
        let mut out = vec![0; frame.len() + 4096];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat: 1, ..Default::default() };
        let result = program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value as i32, out)
    }

    /// The frame goes on as `wanted`.
    pub fn check_next(&mut self, frame: &[u8], wanted: &[u8]) {
        let (verdict, bytes) = self.run(frame);
        assert_eq!((verdict, hex(&bytes)), (NEXT, hex(wanted)), "{}", self.name);
    }

    /// The frame comes back as `wanted`, or is dropped.
    pub fn check(&mut self, frame: &[u8], wanted: Option<&[u8]>) {
        let (verdict, bytes) = self.run(frame);
        match wanted {
            Some(wanted) => {
                assert_eq!(verdict, REDIRECT, "{}", self.name);
                assert_eq!(hex(&bytes), hex(wanted), "{}", self.name);
            }
            None => assert_eq!(verdict, SHOT, "{}", self.name),
        }
    }
}

/// Lines of 16 bytes, for a difference that can be read.
fn hex(bytes: &[u8]) -> Vec<String> {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect()
}
