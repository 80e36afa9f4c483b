//! Address leases, kept in one file.

use crate::{AddressPool, CniError};
use ipnet::IpNet;
use jiff::Timestamp;
use orlop_model::PodUid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One leased address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub ip: IpAddr,
    /// Who has it.
    pub pod: PodUid,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    leases: Vec<Lease>,
    /// Released addresses that rest.
    resting: BTreeMap<IpAddr, Timestamp>,
    /// Given out last, one a range.
    last: Vec<IpAddr>,
}

/// Gives each pod one address a family. Every change is on disk before it is
/// answered; a change that cannot be written is taken back.
#[derive(Debug)]
pub struct Ipam {
    file: PathBuf,
    pools: Vec<AddressPool>,
    /// Leases outside today's ranges, of pods from before the configuration changed.
    foreign: BTreeMap<IpAddr, PodUid>,
}

impl Ipam {
    /// Reads the leases (a missing file is none) and takes the ranges to give out from;
    /// without one, addresses that were given stay given.
    /// Their order is the order of a pod's addresses; several of one family are filled in turn.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn open(file: &Path, cidrs: &[IpNet]) -> Result<Self, CniError> {
        let record = read(file)?;
        let mut pools: Vec<AddressPool> = cidrs.iter().copied().map(AddressPool::new).collect();
        let mut foreign = BTreeMap::new();
        for Lease { ip, pod } in record.leases {
            match holder(&mut pools, ip) {
                Some(pool) => pool.restore((ip, pod)),
                None => drop(foreign.insert(ip, pod)),
            }
        }
        for (ip, since) in record.resting {
            if let Some(pool) = holder(&mut pools, ip) {
                pool.restore_resting(ip, since);
            }
        }
        for ip in record.last {
            if let Some(pool) = holder(&mut pools, ip) {
                pool.restore_last(ip);
            }
        }
        Ok(Self { file: file.to_owned(), pools, foreign })
    }

    /// The pod's addresses, one a family, primary first; the same again for a pod that has them.
    ///
    /// # Errors
    /// There is no range, a family is exhausted (then nothing is taken), or the file cannot be written.
    pub fn allocate(&mut self, pod: &PodUid, now: Timestamp) -> Result<Vec<IpAddr>, CniError> {
        let had = self.addresses(pod);
        if !had.is_empty() {
            return Ok(had);
        }
        if self.pools.is_empty() {
            return Err(CniError::NoCidr);
        }
        let mut pools = self.pools.clone();
        let mut given: Vec<IpAddr> = Vec::new();
        let mut exhausted: Option<CniError> = None;
        for pool in &mut pools {
            let family = |ip: &IpAddr| ip.is_ipv4() == pool.cidr().addr().is_ipv4();
            if given.iter().any(family) {
                continue;
            }
            match pool.allocate(pod, now) {
                Ok(ip) => given.push(ip),
                Err(error) => exhausted = Some(error),
            }
        }
        let families: BTreeSet<bool> = self.pools.iter().map(|pool| pool.cidr().addr().is_ipv4()).collect();
        match exhausted {
            Some(error) if given.len() < families.len() => Err(error),
            _ => self.keep(pools, self.foreign.clone()).map(|()| given),
        }
    }

    /// Gives back the pod's addresses and says which; none is fine.
    ///
    /// # Errors
    /// The file cannot be written; the pod then keeps them.
    pub fn release(&mut self, pod: &PodUid, now: Timestamp) -> Result<Vec<IpAddr>, CniError> {
        let (mut pools, mut foreign) = (self.pools.clone(), self.foreign.clone());
        let mut freed: Vec<IpAddr> = pools.iter_mut().flat_map(|pool| pool.release(pod, now)).collect();
        freed.extend(foreign.iter().filter(|(_, holder)| *holder == pod).map(|(ip, _)| *ip));
        foreign.retain(|_, holder| holder != pod);
        if !freed.is_empty() {
            self.keep(pools, foreign)?;
        }
        Ok(freed)
    }

    /// Gives back the addresses of all pods but `live`: what a crash between a pod's
    /// end and its release left behind. Says whose they were.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn retain(&mut self, live: &BTreeSet<PodUid>, now: Timestamp) -> Result<Vec<PodUid>, CniError> {
        let gone: BTreeSet<PodUid> =
            self.leases().into_iter().map(|lease| lease.pod).filter(|pod| !live.contains(pod)).collect();
        gone.iter().try_for_each(|pod| self.release(pod, now).map(drop))?;
        Ok(gone.into_iter().collect())
    }

    /// The pod's addresses, primary first; empty when it has none.
    #[must_use]
    pub fn addresses(&self, pod: &PodUid) -> Vec<IpAddr> {
        let foreign = self.foreign.iter().filter(|(_, holder)| *holder == pod).map(|(ip, _)| *ip);
        self.pools.iter().flat_map(|pool| pool.of(pod)).chain(foreign).collect()
    }

    /// All leases, by address.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        let own = self.pools.iter().flat_map(AddressPool::leases);
        let all = own.chain(self.foreign.iter().map(|(ip, pod)| (*ip, pod)));
        all.map(|(ip, pod)| Lease { ip, pod: pod.clone() }).collect()
    }

    /// The ranges, with what is taken of them.
    #[must_use]
    pub fn pools(&self) -> &[AddressPool] {
        &self.pools
    }

    fn keep(&mut self, pools: Vec<AddressPool>, foreign: BTreeMap<IpAddr, PodUid>) -> Result<(), CniError> {
        let own = pools.iter().flat_map(AddressPool::leases).chain(foreign.iter().map(|(ip, pod)| (*ip, pod)));
        let record = Record {
            leases: own.map(|(ip, pod)| Lease { ip, pod: pod.clone() }).collect(),
            resting: pools.iter().flat_map(AddressPool::resting).collect(),
            last: pools.iter().filter_map(AddressPool::last).collect(),
        };
        write(&self.file, &record).map_err(|source| CniError::WriteLeases { file: self.file.clone(), source })?;
        (self.pools, self.foreign) = (pools, foreign);
        Ok(())
    }
}

fn holder(pools: &mut [AddressPool], ip: IpAddr) -> Option<&mut AddressPool> {
    pools.iter_mut().find(|pool| pool.cidr().contains(&ip))
}

fn read(file: &Path) -> Result<Record, CniError> {
    match fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| CniError::DamagedLeases { file: file.to_owned(), source })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
        Err(source) => Err(CniError::ReadLeases { file: file.to_owned(), source }),
    }
}

/// Whole or not at all. Not synced: pods do not outlive the machine, and a crash of the
/// agent loses nothing that was written.
fn write(file: &Path, record: &Record) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let mut out = fs::File::create(&new)?;
    out.write_all(&serde_json::to_vec(record)?)?;
    fs::rename(&new, file)
}
