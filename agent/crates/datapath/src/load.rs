//! Opening: check the pins, load, take over.

use aya::EbpfLoader;
use aya::programs::Program as Loaded;
use orlop_ebpf_abi::{
    Addr, Backend, Bandwidth, BandwidthKey, Device, DeviceCounters, Frontend, FrontendKey, LocalPod, MAPS, MapSpec,
    NetworkKey, ServiceCounterKey, ServiceCounters, Settings, SlotBlock, SlotKey, SocketService, SourceRangeKey,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::layout::Layout;
use crate::table::Table;
use crate::tables::Followed;
use crate::{Error, Program, attach, filters, sys};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/orlop-ebpf.o"));

/// Where the data path lives.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Folder on a bpf file system, the node's own: `--bpf-dir`.
    pub bpf_dir: PathBuf,
    /// Folder of the cgroup (version 2) whose sockets are translated, with all
    /// below it; `None` translates no sockets.
    pub cgroup: Option<PathBuf>,
    /// Entries of a map by name, where the default does not fit. Only for maps
    /// that are not pinned yet.
    pub map_entries: BTreeMap<String, u32>,
}

/// The loaded and pinned data path of one node. Dropping it leaves everything
/// attached and pinned.
pub struct Datapath {
    pub(crate) layout: Layout,
    pub(crate) programs: BTreeMap<Program, OwnedFd>,
    pub(crate) frontends: Table<FrontendKey, Frontend>,
    pub(crate) slots: Table<SlotKey, SlotBlock>,
    pub(crate) backends: Table<u32, Backend>,
    pub(crate) source_ranges: Table<SourceRangeKey, u32>,
    pub(crate) cluster_ips: Table<Addr, u32>,
    pub(crate) bandwidth: Table<BandwidthKey, Bandwidth>,
    pub(crate) generation: Table<u32, u64>,
    pub(crate) node_port_bits: Table<u32, u64>,
    pub(crate) node_addrs: Table<Addr, u32>,
    pub(crate) netns: Table<u64, u32>,
    pub(crate) devices: Table<u32, Device>,
    pub(crate) settings: Table<u32, Settings>,
    pub(crate) non_masquerade: Table<NetworkKey, u32>,
    pub(crate) sockets: Table<u64, SocketService>,
    pub(crate) faults: Table<u32, u64>,
    pub(crate) pods: Table<Addr, LocalPod>,
    pub(crate) device_counters: Table<u32, DeviceCounters>,
    pub(crate) service_counters: Table<ServiceCounterKey, ServiceCounters>,
    pub(crate) followed: Mutex<Followed>,
    pub(crate) cpus: usize,
}

impl std::fmt::Debug for Datapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datapath").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Datapath {
    /// Loads the programs, takes the pinned maps with all that is in them (or
    /// makes and pins them), attaches to the cgroup and puts the new programs
    /// under every link that is pinned already.
    ///
    /// # Errors
    /// [`Error::NoBpffs`], [`Error::IncompatibleMap`], or what the kernel refused.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let layout = Layout::create(&config.bpf_dir)?;
        for spec in MAPS {
            check_pin(&layout, spec)?;
        }
        let mut loader = EbpfLoader::new();
        // No program relocates against the kernel's types.
        loader.btf(None);
        for spec in MAPS {
            loader.map_pin_path(spec.name, layout.map(spec.name));
            if let Some(&entries) = config.map_entries.get(spec.name) {
                loader.map_max_entries(spec.name, entries);
            }
        }
        let mut object = loader.load(OBJECT).map_err(|err| Error::Load(Box::new(err)))?;
        let mut programs = BTreeMap::new();
        for &program in Program::ALL {
            programs.insert(program, load_program(&mut object, program)?);
        }
        let open = |name: &'static str| {
            let path = layout.map(name);
            sys::open_pin(&path).map_err(|source| Error::Pin { operation: "open pin", path, source })
        };
        let datapath = Self {
            programs,
            frontends: Table::new("FRONTENDS", open("FRONTENDS")?),
            slots: Table::new("SLOTS", open("SLOTS")?),
            backends: Table::new("BACKENDS", open("BACKENDS")?),
            source_ranges: Table::new("SOURCE_RANGES", open("SOURCE_RANGES")?),
            cluster_ips: Table::new("CLUSTER_IPS", open("CLUSTER_IPS")?),
            bandwidth: Table::new("BANDWIDTH", open("BANDWIDTH")?),
            generation: Table::new("GENERATION", open("GENERATION")?),
            node_port_bits: Table::new("NODE_PORTS", open("NODE_PORTS")?),
            node_addrs: Table::new("NODE_ADDRS", open("NODE_ADDRS")?),
            netns: Table::new("NETNS", open("NETNS")?),
            devices: Table::new("DEVICES", open("DEVICES")?),
            settings: Table::new("SETTINGS", open("SETTINGS")?),
            non_masquerade: Table::new("NON_MASQUERADE", open("NON_MASQUERADE")?),
            sockets: Table::new("SOCKETS", open("SOCKETS")?),
            faults: Table::new("FAULTS", open("FAULTS")?),
            pods: Table::new("PODS", open("PODS")?),
            device_counters: Table::new("DEVICE_COUNTERS", open("DEVICE_COUNTERS")?),
            service_counters: Table::new("SERVICE_COUNTERS", open("SERVICE_COUNTERS")?),
            followed: Mutex::default(),
            cpus: possible_cpus()?,
            layout,
        };
        datapath.adopt_tables()?;
        datapath.adopt_netns()?;
        match &config.cgroup {
            Some(cgroup) => datapath.attach_cgroup(cgroup)?,
            None => datapath.detach_cgroup()?,
        }
        datapath.update_uplink_links()?;
        datapath.replace_pod_filters()?;
        Ok(datapath)
    }

    pub(crate) fn program(&self, program: Program) -> BorrowedFd<'_> {
        self.programs[&program].as_fd()
    }

    /// Detaches everything and removes every pin and folder of this data path.
    ///
    /// # Errors
    /// As [`remove_all`].
    pub fn remove_all(self) -> Result<(), Error> {
        remove_all(self.layout.root())
    }
}

/// Detaches everything below a node's BPF folder and removes every pin and the
/// folder. One that is not there is a success.
///
/// # Errors
/// [`Error::Teardown`] with every pin that stayed; the others are gone.
pub fn remove_all(bpf_dir: &Path) -> Result<(), Error> {
    let mut errors = Vec::new();
    let pods = bpf_dir.join("maps/PODS");
    if let Ok(map) = sys::open_pin(&pods) {
        errors.extend(filters::remove_all(&Table::new("PODS", map)).err());
    }
    for kind in ["cgroup", "uplink"] {
        remove_folder(&bpf_dir.join("links").join(kind), true, &mut errors);
    }
    remove_folder(&bpf_dir.join("links"), false, &mut errors);
    remove_folder(&bpf_dir.join("maps"), false, &mut errors);
    remove_folder(bpf_dir, false, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(Error::Teardown { errors }) }
}

fn remove_folder(folder: &Path, links: bool, errors: &mut Vec<Error>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !path.is_dir()) {
        let removed = if links { attach::unpin_link(&path) } else { fs::remove_file(&path) };
        errors.extend(removed.err().map(|source| Error::Pin { operation: "remove pin", path, source }));
    }
    if let Err(source) = fs::remove_dir(folder) {
        errors.push(Error::Pin { operation: "remove folder", path: folder.to_path_buf(), source });
    }
}

fn possible_cpus() -> Result<usize, Error> {
    aya::util::nr_cpus().map_err(|(path, source)| Error::Pin { operation: "read", path: path.into(), source })
}

/// Refuses a pinned map of another layout. Its number of entries may differ: an
/// operator may have changed it.
fn check_pin(layout: &Layout, spec: &MapSpec) -> Result<(), Error> {
    let pin = layout.map(spec.name);
    let info = match sys::open_pin(&pin).and_then(|map| sys::map_info(map.as_fd())) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Pin { operation: "open pin", path: pin, source }),
        Ok(info) => info,
    };
    let found = (info.kind, info.key_size, info.value_size);
    let wanted = (spec.kind as u32, spec.key_size, spec.value_size);
    if found == wanted {
        return Ok(());
    }
    let words = |(kind, key, value): (u32, u32, u32)| format!("type {kind}, keys of {key} and values of {value} bytes");
    let folder = layout.root().to_path_buf();
    Err(Error::IncompatibleMap { pin, folder, found: words(found), wanted: words(wanted) })
}

fn load_program(object: &mut aya::Ebpf, program: Program) -> Result<OwnedFd, Error> {
    let failed = |source| Error::LoadProgram { program, source: Box::new(source) };
    let loaded = object.program_mut(program.name()).ok_or(Error::Missing { what: "program", name: program.name() })?;
    match loaded {
        Loaded::CgroupSockAddr(loaded) => loaded.load(),
        Loaded::CgroupSkb(loaded) => loaded.load(),
        Loaded::CgroupSock(loaded) => loaded.load(),
        Loaded::SchedClassifier(loaded) => loaded.load(),
        Loaded::Xdp(loaded) => loaded.load(),
        _ => return Err(Error::Missing { what: "program", name: program.name() }),
    }
    .map_err(failed)?;
    let fd = loaded.fd().map_err(failed)?;
    fd.as_fd().try_clone_to_owned().map_err(|source| Error::Pin {
        operation: "keep program",
        path: program.name().into(),
        source,
    })
}
