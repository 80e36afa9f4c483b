//! A map with its key and value types.

use orlop_ebpf_abi::{
    Backend, Device, DeviceCounters, Flow, FlowKey, Frontend, FrontendKey, LocalPod, MAPS, MapSpec, NetworkKey,
    ServiceCounterKey, ServiceCounters, Settings, SlotBlock, SlotKey, SocketService, SourceRangeKey,
};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};

use crate::{Error, sys};

/// Types that are plain bytes: `repr(C)`, no padding the compiler made, every
/// pattern valid.
///
/// # Safety
/// As said.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),+) => {
        $(
            // SAFETY: the shared types name their padding and assert their size.
            unsafe impl Plain for $type {}
        )+
    };
}
plain!(
    u8,
    u32,
    u64,
    [u8; 16],
    Backend,
    Device,
    DeviceCounters,
    Flow,
    FlowKey,
    Frontend,
    FrontendKey,
    LocalPod,
    NetworkKey,
    ServiceCounterKey,
    ServiceCounters,
    Settings,
    SlotBlock,
    SlotKey,
    SocketService,
    SourceRangeKey
);

/// Elements that are read at once. The kernel hands a hash map's out by whole buckets,
/// none of which comes near it.
pub const BATCH_ENTRIES: u32 = 4_096;

pub struct Table<K, V> {
    name: &'static str,
    spec: &'static MapSpec,
    fd: OwnedFd,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// # Panics
    /// When the types are not those that the abi's table names: a programming error.
    pub fn new(name: &'static str, fd: OwnedFd) -> Self {
        let spec = MAPS.iter().find(|spec| spec.name == name).expect("a map of the abi's table");
        assert_eq!((spec.key_size as usize, spec.value_size as usize), (size_of::<K>(), size_of::<V>()), "{name}");
        Self { name, spec, fd, types: PhantomData }
    }

    fn failed(&self, operation: &'static str) -> impl Fn(io::Error) -> Error + use<K, V> {
        let map = self.name;
        move |source| Error::Map { operation, map, source }
    }

    pub fn get(&self, key: &K) -> Result<Option<V>, Error> {
        let mut value = std::mem::MaybeUninit::<V>::zeroed();
        // SAFETY: sizes are checked in `new`; only for maps that are not per CPU.
        let found = unsafe { sys::map_lookup(self.fd.as_fd(), bytes(key), value.as_mut_ptr().cast()) };
        match found {
            // SAFETY: the kernel wrote it, and any pattern is valid (Plain).
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(err) if is_missing(&err) => Ok(None),
            Err(err) => Err(self.failed("read")(err)),
        }
    }

    pub fn put(&self, key: &K, value: &V) -> Result<(), Error> {
        // SAFETY: sizes are checked in `new`; only for maps that are not per CPU.
        unsafe { sys::map_update(self.fd.as_fd(), bytes(key), bytes(value), 0) }.map_err(self.failed("write"))
    }

    /// Removing what is not there is a success.
    pub fn remove(&self, key: &K) -> Result<(), Error> {
        // SAFETY: sizes are checked in `new`.
        match unsafe { sys::map_delete(self.fd.as_fd(), bytes(key)) } {
            Err(err) if !is_missing(&err) => Err(self.failed("remove from")(err)),
            _ => Ok(()),
        }
    }

    /// The key after `last` in the map's own order, the first for none; `None` at the
    /// end. When `last` was removed, it is the first again.
    pub fn next_key(&self, last: Option<&K>) -> Result<Option<K>, Error> {
        let mut next = std::mem::MaybeUninit::<K>::zeroed();
        let after = last.map_or(std::ptr::null(), bytes);
        // SAFETY: sizes are checked in `new`; a null key asks for the first.
        match unsafe { sys::map_next_key(self.fd.as_fd(), after, next.as_mut_ptr().cast()) } {
            // SAFETY: the kernel wrote it, and any pattern is valid (Plain).
            Ok(()) => Ok(Some(unsafe { next.assume_init() })),
            Err(err) if is_missing(&err) => Ok(None),
            Err(err) => Err(self.failed("read")(err)),
        }
    }

    /// Meets every key in turn, none kept. Whole when nobody else removes meanwhile;
    /// bounded in any case.
    fn each_key(&self, mut meet: impl FnMut(&K) -> Result<(), Error>) -> Result<(), Error> {
        let mut last: Option<K> = None;
        let info = sys::map_info(self.fd.as_fd()).map_err(self.failed("read"))?;
        for _ in 0..info.max_entries.max(self.spec.entries) {
            last = self.next_key(last.as_ref())?;
            let Some(key) = &last else { break };
            meet(key)?;
        }
        Ok(())
    }

    /// All keys.
    pub fn keys(&self) -> Result<Vec<K>, Error> {
        let mut keys = Vec::new();
        self.each_key(|key| {
            keys.push(*key);
            Ok(())
        })?;
        Ok(keys)
    }

    /// All elements. Those that come or go meanwhile may be missing.
    pub fn entries(&self) -> Result<Vec<(K, V)>, Error> {
        let mut entries = Vec::new();
        self.each_entry(|key, value| {
            entries.push((key, value));
            Ok(())
        })?;
        Ok(entries)
    }

    /// Meets every element in turn, some thousands in memory at a time; as [`entries`](Self::entries).
    pub fn each_entry(&self, mut meet: impl FnMut(K, V) -> Result<(), Error>) -> Result<(), Error> {
        let info = sys::map_info(self.fd.as_fd()).map_err(self.failed("read"))?;
        let count = info.max_entries.min(BATCH_ENTRIES);
        let mut keys = vec![std::mem::MaybeUninit::<K>::zeroed(); count as usize];
        let mut values = vec![std::mem::MaybeUninit::<V>::zeroed(); count as usize];
        let mut last: Option<sys::Batch> = None;
        for _ in 0..=info.max_entries {
            let mut next = [0; size_of::<sys::Batch>()];
            let (to_keys, to_values) = (keys.as_mut_ptr().cast(), values.as_mut_ptr().cast());
            // SAFETY: sizes are checked in `new`, there is room for `count` of each; not for per-CPU maps.
            let read =
                unsafe { sys::map_lookup_batch(self.fd.as_fd(), last.as_ref(), &mut next, to_keys, to_values, count) };
            let (read, done) = read.map_err(self.failed("read"))?;
            for (key, value) in keys.iter().zip(&values).take(read as usize) {
                // SAFETY: any pattern is valid (Plain), and so are the zeros that nobody wrote over.
                let (key, value) = unsafe { (key.assume_init(), value.assume_init()) };
                meet(key, value)?;
            }
            if done {
                break;
            }
            last = Some(next);
        }
        Ok(())
    }

    /// The values of all possible CPUs of a per-CPU map.
    pub fn get_per_cpu(&self, key: &K, cpus: usize) -> Result<Option<Vec<V>>, Error> {
        assert_eq!(size_of::<V>() % 8, 0, "the kernel rounds per-CPU values up to eight bytes");
        let mut values: Vec<V> = Vec::with_capacity(cpus);
        // SAFETY: there is room for `cpus` values, as many as the kernel writes.
        match unsafe { sys::map_lookup(self.fd.as_fd(), bytes(key), values.as_mut_ptr().cast()) } {
            Ok(()) => {
                // SAFETY: the kernel wrote them all, and any pattern is valid (Plain).
                unsafe { values.set_len(cpus) };
                Ok(Some(values))
            }
            Err(err) if is_missing(&err) => Ok(None),
            Err(err) => Err(self.failed("read")(err)),
        }
    }

    /// Makes an element with the same value on every CPU; keeps one that is there.
    pub fn create_per_cpu(&self, key: &K, value: V, cpus: usize) -> Result<(), Error> {
        const BPF_NOEXIST: u64 = 1;
        let values = vec![value; cpus];
        // SAFETY: as many values as possible CPUs, of eight-byte multiples.
        match unsafe { sys::map_update(self.fd.as_fd(), bytes(key), values.as_ptr().cast(), BPF_NOEXIST) } {
            Err(err) if err.raw_os_error() != Some(libc::EEXIST) => Err(self.failed("write")(err)),
            _ => Ok(()),
        }
    }
}

fn bytes<T: Plain>(value: &T) -> *const u8 {
    std::ptr::from_ref(value).cast()
}

fn is_missing(err: &io::Error) -> bool {
    err.raw_os_error() == Some(libc::ENOENT)
}
