//! Address leases, kept in one file.

use crate::{AddressPool, CniError};
use ipnet::IpNet;
use jiff::Timestamp;
use orlop_model::PodUid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One leased address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease<H = PodUid> {
    /// The address.
    pub ip: IpAddr,
    /// Who has it.
    #[serde(alias = "pod")]
    pub holder: H,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<H> {
    leases: Vec<Lease<H>>,
    /// Released addresses that rest.
    resting: BTreeMap<IpAddr, Timestamp>,
    /// Given out last, one a range.
    last: Vec<IpAddr>,
}

/// Gives each holder (a pod of the agent's, or an [`crate::Attachment`] of another
/// runtime's) one address a family. Every change is on disk before it is
/// answered; a change that cannot be written is taken back.
#[derive(Debug)]
pub struct Ipam<H = PodUid> {
    file: PathBuf,
    pools: Vec<AddressPool<H>>,
    /// Leases outside today's ranges, of pods from before the configuration changed.
    foreign: BTreeMap<IpAddr, H>,
}

impl<H: Clone + Ord + Serialize + DeserializeOwned> Ipam<H> {
    /// Reads the leases (a missing file is none) and takes the ranges to give out from;
    /// without one, addresses that were given stay given.
    /// Their order is the order of a pod's addresses; several of one family are filled in turn.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn open(file: &Path, cidrs: &[IpNet]) -> Result<Self, CniError> {
        let record: Record<H> = read(file)?;
        let mut pools: Vec<AddressPool<H>> = cidrs.iter().copied().map(AddressPool::new).collect();
        let mut foreign = BTreeMap::new();
        for Lease { ip, holder } in record.leases {
            match pool_of(&mut pools, ip) {
                Some(pool) => pool.restore((ip, holder)),
                None => drop(foreign.insert(ip, holder)),
            }
        }
        for (ip, since) in record.resting {
            if let Some(pool) = pool_of(&mut pools, ip) {
                pool.restore_resting(ip, since);
            }
        }
        for ip in record.last {
            if let Some(pool) = pool_of(&mut pools, ip) {
                pool.restore_last(ip);
            }
        }
        Ok(Self { file: file.to_owned(), pools, foreign })
    }

    /// The holder's addresses, one a family, primary first; the same again for one that has them.
    ///
    /// # Errors
    /// There is no range, a family is exhausted (then nothing is taken), or the file cannot be written.
    pub fn allocate(&mut self, holder: &H, now: Timestamp) -> Result<Vec<IpAddr>, CniError> {
        self.allocate_asked(holder, &[], now)
    }

    /// As [`Ipam::allocate`], with the addresses in `asked` for their families.
    ///
    /// # Errors
    /// The same; or one of `asked` is in no range, or somebody else's. Then nothing is taken.
    pub fn allocate_asked(&mut self, holder: &H, asked: &[IpAddr], now: Timestamp) -> Result<Vec<IpAddr>, CniError> {
        let had = self.addresses(holder);
        if !had.is_empty() {
            return match asked.iter().find(|ip| !had.contains(ip)) {
                Some(&ip) => Err(CniError::HasOthers { ip }),
                None => Ok(had),
            };
        }
        if self.pools.is_empty() {
            return Err(CniError::NoCidr);
        }
        let mut pools = self.pools.clone();
        let mut given: Vec<IpAddr> = Vec::new();
        for &ip in asked {
            pool_of(&mut pools, ip).ok_or(CniError::NotInRange { ip })?.take(ip, holder)?;
            given.push(ip);
        }
        let mut exhausted: Option<CniError> = None;
        for pool in &mut pools {
            let family = |ip: &IpAddr| ip.is_ipv4() == pool.cidr().addr().is_ipv4();
            if given.iter().any(family) {
                continue;
            }
            match pool.allocate(holder, now) {
                Ok(ip) => given.push(ip),
                Err(error) => exhausted = Some(error),
            }
        }
        let families: BTreeSet<bool> = self.pools.iter().map(|pool| pool.cidr().addr().is_ipv4()).collect();
        match exhausted {
            Some(error) if given.len() < families.len() => Err(error),
            _ => self.keep(pools, self.foreign.clone()).map(|()| self.addresses(holder)),
        }
    }

    /// Gives back the holder's addresses and says which; none is fine.
    ///
    /// # Errors
    /// The file cannot be written; the holder then keeps them.
    pub fn release(&mut self, holder: &H, now: Timestamp) -> Result<Vec<IpAddr>, CniError> {
        let (mut pools, mut foreign) = (self.pools.clone(), self.foreign.clone());
        let mut freed: Vec<IpAddr> = pools.iter_mut().flat_map(|pool| pool.release(holder, now)).collect();
        freed.extend(foreign.iter().filter(|(_, of)| *of == holder).map(|(ip, _)| *ip));
        foreign.retain(|_, of| of != holder);
        if !freed.is_empty() {
            self.keep(pools, foreign)?;
        }
        Ok(freed)
    }

    /// Gives back the addresses of all holders but `live`: what a crash between a pod's
    /// end and its release left behind. Says whose they were.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn retain(&mut self, live: &BTreeSet<H>, now: Timestamp) -> Result<Vec<H>, CniError> {
        let gone: BTreeSet<H> =
            self.leases().into_iter().map(|lease| lease.holder).filter(|holder| !live.contains(holder)).collect();
        gone.iter().try_for_each(|holder| self.release(holder, now).map(drop))?;
        Ok(gone.into_iter().collect())
    }

    /// The holder's addresses, primary first; empty when it has none.
    #[must_use]
    pub fn addresses(&self, holder: &H) -> Vec<IpAddr> {
        let foreign = self.foreign.iter().filter(|(_, of)| *of == holder).map(|(ip, _)| *ip);
        self.pools.iter().flat_map(|pool| pool.of(holder)).chain(foreign).collect()
    }

    /// All leases, by address.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease<H>> {
        let own = self.pools.iter().flat_map(AddressPool::leases);
        let all = own.chain(self.foreign.iter().map(|(ip, holder)| (*ip, holder)));
        all.map(|(ip, holder)| Lease { ip, holder: holder.clone() }).collect()
    }

    /// The ranges, with what is taken of them.
    #[must_use]
    pub fn pools(&self) -> &[AddressPool<H>] {
        &self.pools
    }

    fn keep(&mut self, pools: Vec<AddressPool<H>>, foreign: BTreeMap<IpAddr, H>) -> Result<(), CniError> {
        let own = pools.iter().flat_map(AddressPool::leases).chain(foreign.iter().map(|(ip, holder)| (*ip, holder)));
        let record = Record {
            leases: own.map(|(ip, holder)| Lease { ip, holder: holder.clone() }).collect(),
            resting: pools.iter().flat_map(AddressPool::resting).collect(),
            last: pools.iter().filter_map(AddressPool::last).collect(),
        };
        write(&self.file, &record).map_err(|source| CniError::WriteLeases { file: self.file.clone(), source })?;
        (self.pools, self.foreign) = (pools, foreign);
        Ok(())
    }
}

fn pool_of<H: Clone + Eq>(pools: &mut [AddressPool<H>], ip: IpAddr) -> Option<&mut AddressPool<H>> {
    pools.iter_mut().find(|pool| pool.cidr().contains(&ip))
}

fn read<H: DeserializeOwned>(file: &Path) -> Result<Record<H>, CniError> {
    match fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| CniError::DamagedLeases { file: file.to_owned(), source })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(Record { leases: Vec::new(), resting: BTreeMap::new(), last: Vec::new() })
        }
        Err(source) => Err(CniError::ReadLeases { file: file.to_owned(), source }),
    }
}

/// Whole or not at all. Not synced: pods do not outlive the machine, and a crash of the
/// agent loses nothing that was written.
fn write<H: Serialize>(file: &Path, record: &Record<H>) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let mut out = fs::File::create(&new)?;
    out.write_all(&serde_json::to_vec(record)?)?;
    fs::rename(&new, file)
}
