//! Documents, drop-ins, flags and kubeadm's files, through the crate's door.

mod fields;
mod kubeadm;
mod load;
mod services;
