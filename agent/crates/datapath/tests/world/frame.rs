//! Frames built by hand, checksums computed here.

use std::net::{IpAddr, SocketAddr};

/// One TCP or UDP frame.
#[derive(Clone)]
pub struct Frame {
    pub macs: [[u8; 6]; 2],
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub proto: u8,
    pub tcp_flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub payload: Vec<u8>,
    /// IPv4: flags and fragment offset.
    pub fragment: u16,
    /// IPv6: number of destination options headers.
    pub extension_headers: usize,
    pub udp_checksum: bool,
    pub ttl: u8,
}

impl Frame {
    pub fn udp(src: &str, dst: &str) -> Self {
        Self {
            macs: [[2, 0, 0, 0, 9, 9], [2, 0, 0, 0, 8, 8]],
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            proto: 17,
            tcp_flags: 0,
            seq: 0,
            ack: 0,
            payload: b"question".to_vec(),
            fragment: 0,
            extension_headers: 0,
            udp_checksum: true,
            ttl: 64,
        }
    }

    pub fn syn(src: &str, dst: &str, seq: u32) -> Self {
        Self { proto: 6, tcp_flags: 2, seq, payload: Vec::new(), ..Self::udp(src, dst) }
    }

    /// Destination, then source.
    pub fn macs(self, dst: [u8; 6], src: [u8; 6]) -> Self {
        Self { macs: [dst, src], ..self }
    }

    pub fn src(self, src: &str) -> Self {
        Self { src: src.parse().unwrap(), ..self }
    }

    pub fn dst(self, dst: &str) -> Self {
        Self { dst: dst.parse().unwrap(), ..self }
    }

    pub fn transport(&self) -> Vec<u8> {
        let ports = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()].concat();
        let mut bytes = if self.proto == 6 {
            let header =
                [self.seq.to_be_bytes(), self.ack.to_be_bytes(), [0x50, self.tcp_flags, 0xff, 0xff], [0; 4]].concat();
            [ports, header, self.payload.clone()].concat()
        } else {
            let len = (8 + self.payload.len()) as u16;
            [ports, len.to_be_bytes().to_vec(), vec![0; 2], self.payload.clone()].concat()
        };
        if self.proto == 6 || self.udp_checksum {
            let len = (bytes.len() as u32).to_be_bytes();
            let pseudo =
                [octets(self.src.ip()), octets(self.dst.ip()), len.to_vec(), vec![0, 0, 0, self.proto]].concat();
            let sum = checksum(&[pseudo, bytes.clone()].concat());
            let sum = if sum == 0 && self.proto == 17 { 0xffff } else { sum };
            let at = if self.proto == 6 { 16 } else { 6 };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let (ethertype, network) = if self.src.is_ipv4() {
            let len = (20 + transport.len()) as u16;
            let mut header = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 7], &self.fragment.to_be_bytes()].concat();
            header.extend([self.ttl, self.proto, 0, 0]);
            header.extend([octets(self.src.ip()), octets(self.dst.ip())].concat());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            ([8, 0], header)
        } else {
            const DESTINATION_OPTIONS: u8 = 60;
            let len = (8 * self.extension_headers + transport.len()) as u16;
            let first = if self.extension_headers == 0 { self.proto } else { DESTINATION_OPTIONS };
            let mut header = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[first, self.ttl]].concat();
            header.extend([octets(self.src.ip()), octets(self.dst.ip())].concat());
            for left in (0..self.extension_headers).rev() {
                // One PadN option of six bytes.
                header.extend([if left == 0 { self.proto } else { DESTINATION_OPTIONS }, 0, 1, 4, 0, 0, 0, 0]);
            }
            ([0x86, 0xdd], header)
        };
        [self.macs.concat(), ethertype.to_vec(), network, transport].concat()
    }
}

pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Frame {
    /// From the ethertype on: the ICMP error of `from` about this IPv4 packet, with type, code and MTU.
    pub fn error(&self, from: [u8; 4], [kind, code, mtu_hi, mtu_lo]: [u8; 4]) -> Vec<u8> {
        let quoted = self.bytes()[14..].to_vec();
        let mut icmp = [&[kind, code, 0, 0, 0, 0, mtu_hi, mtu_lo][..], &quoted].concat();
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let len = (20 + icmp.len()) as u16;
        let mut header = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 9, 0, 0, 64, 1, 0, 0], &from].concat();
        header.extend(octets(self.src.ip()));
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&[8, 0][..], &header, &icmp].concat()
    }
}

/// Takes one hop off what [`Frame::error`] made.
pub fn age(error: &mut [u8]) {
    let header = &mut error[2..22];
    header[8] -= 1;
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv4 packet in a frame.
pub fn ipv4(macs: [[u8; 6]; 2], ttl: u8, proto: u8, ends: [std::net::Ipv4Addr; 2], payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut header = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 7, 0, 0, ttl, proto, 0, 0]].concat();
    header.extend(ends.map(|addr| addr.octets()).concat());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&macs.concat()[..], &[8, 0], &header, payload].concat()
}
