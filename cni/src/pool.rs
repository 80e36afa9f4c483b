//! Which addresses of one pod CIDR are taken, and which comes next. Pure.

use crate::CniError;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use orlop_model::PodUid;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Seconds an address rests after its release: connections and conntrack entries of
/// the pod that had it must not reach the next one.
pub const REUSE_AFTER_SECS: i64 = 60;

/// One pod CIDR. `H` is who holds its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool<H = PodUid> {
    cidr: IpNet,
    leased: BTreeMap<IpAddr, H>,
    /// When each was released.
    cooling: BTreeMap<IpAddr, Timestamp>,
    /// The address given out last.
    last: Option<IpAddr>,
}

const fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits() as u128,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl<H: Clone + Eq> AddressPool<H> {
    /// A range with nothing taken.
    #[must_use]
    pub fn new(cidr: IpNet) -> Self {
        Self { cidr: cidr.trunc(), leased: BTreeMap::new(), cooling: BTreeMap::new(), last: None }
    }

    /// The range.
    #[must_use]
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// First and last address that may be given out: without network, gateway (the
    /// first host, as CNI's host-local has it) and the last, IPv4's broadcast.
    fn bounds(&self) -> Option<(u128, u128)> {
        let (first, last) = (bits(self.cidr.network()).checked_add(2)?, bits(self.cidr.broadcast()).checked_sub(1)?);
        (first <= last).then_some((first, last))
    }

    /// How many addresses the range can give out.
    #[must_use]
    pub fn capacity(&self) -> u128 {
        self.bounds().map_or(0, |(first, last)| (last - first).saturating_add(1))
    }

    fn ip(&self, bits: u128) -> IpAddr {
        match self.cidr {
            // An IPv4 range has no bits above 32.
            IpNet::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()),
            IpNet::V6(_) => IpAddr::V6(bits.into()),
        }
    }

    /// Takes the next free address after the one given out last. Looks at no more
    /// addresses than are taken or resting, and one.
    ///
    /// # Errors
    /// [`CniError::Exhausted`].
    pub fn allocate(&mut self, holder: &H, now: Timestamp) -> Result<IpAddr, CniError> {
        self.cooling.retain(|_, released| now.duration_since(*released) < SignedDuration::from_secs(REUSE_AFTER_SECS));
        let Some((first, end)) = self.bounds() else { return Err(self.exhausted()) };
        let mut at = self.last.map_or(first, |last| bits(last).saturating_add(1));
        let looked_at_max = (self.leased.len() + self.cooling.len() + 1) as u128;
        for _ in 0..looked_at_max.min(self.capacity()) {
            if !(first..=end).contains(&at) {
                at = first;
            }
            let ip = self.ip(at);
            if !self.leased.contains_key(&ip) && !self.cooling.contains_key(&ip) {
                self.leased.insert(ip, holder.clone());
                self.last = Some(ip);
                return Ok(ip);
            }
            at += 1;
        }
        Err(self.exhausted())
    }

    /// Takes this very address; one that rests too, as the holder asked for it.
    ///
    /// # Errors
    /// [`CniError::NotInRange`], or [`CniError::Taken`] when somebody else has it.
    pub fn take(&mut self, ip: IpAddr, holder: &H) -> Result<(), CniError> {
        let inside = self.cidr.contains(&ip);
        if !inside || !self.bounds().is_some_and(|(first, last)| (first..=last).contains(&bits(ip))) {
            return Err(CniError::NotInRange { ip });
        }
        match self.leased.get(&ip) {
            Some(other) if other != holder => return Err(CniError::Taken { ip }),
            _ => drop(self.leased.insert(ip, holder.clone())),
        }
        self.cooling.remove(&ip);
        Ok(())
    }

    /// How many addresses could be given out at `now`.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> u128 {
        let rests = |since: &&Timestamp| now.duration_since(**since) < SignedDuration::from_secs(REUSE_AFTER_SECS);
        let taken = self.leased.len() + self.cooling.values().filter(rests).count();
        self.capacity().saturating_sub(taken as u128)
    }

    fn exhausted(&self) -> CniError {
        CniError::Exhausted {
            cidr: self.cidr,
            leased: self.leased.len(),
            cooling: self.cooling.len(),
            capacity: self.capacity(),
        }
    }

    /// Gives back what the holder has; the addresses rest from `now` on.
    pub fn release(&mut self, holder: &H, now: Timestamp) -> Vec<IpAddr> {
        let freed: Vec<IpAddr> = self.of(holder).collect();
        for ip in &freed {
            self.leased.remove(ip);
            self.cooling.insert(*ip, now);
        }
        freed
    }

    /// The holder's addresses.
    pub fn of<'a>(&'a self, holder: &'a H) -> impl Iterator<Item = IpAddr> + 'a {
        self.leased.iter().filter(move |(_, of)| *of == holder).map(|(ip, _)| *ip)
    }

    /// All leases, by address.
    pub fn leases(&self) -> impl Iterator<Item = (IpAddr, &H)> {
        self.leased.iter().map(|(ip, holder)| (*ip, holder))
    }

    /// Addresses that rest, and since when.
    pub fn resting(&self) -> impl Iterator<Item = (IpAddr, Timestamp)> {
        self.cooling.iter().map(|(ip, since)| (*ip, *since))
    }

    /// Restores what was remembered.
    pub(crate) fn restore(&mut self, leased: (IpAddr, H)) {
        self.leased.insert(leased.0, leased.1);
    }

    pub(crate) fn restore_resting(&mut self, ip: IpAddr, since: Timestamp) {
        self.cooling.insert(ip, since);
    }

    pub(crate) fn restore_last(&mut self, last: IpAddr) {
        self.last = Some(last);
    }

    pub(crate) fn last(&self) -> Option<IpAddr> {
        self.last
    }
}
