//! How long the programs take and how large they are.

use orlop_model::Ifindex;

use crate::{Datapath, Error, Program, sys};

/// How large a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramSize {
    /// Instructions, after the kernel has rewritten them.
    pub instructions: u32,
    /// Instructions that the verifier walked over: its limit is a million.
    pub verified: u32,
    /// Bytes of machine code.
    pub machine_bytes: u32,
}

impl Datapath {
    /// Runs a tc program `repeat` times on a frame as [`dry_run`](Self::dry_run) does once, and returns how many
    /// nanoseconds a run took on average, as the kernel measured it. Each run gets the frame that the one
    /// before has left: of a program that rewrites it, time single runs.
    ///
    /// # Errors
    /// A program that is not a tc program, or a device that is not there.
    pub fn time_run(&self, program: Program, device: Ifindex, frame: &[u8], repeat: u32) -> Result<u32, Error> {
        sys::repeated_test_run(self.program(program), device.get(), frame, repeat)
            .map(|run| run.nanoseconds)
            .map_err(|source| Error::DryRun { program, device, source })
    }

    /// How large a program is in this kernel.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn program_size(&self, program: Program) -> Result<ProgramSize, Error> {
        const INSTRUCTION_BYTES: u32 = 8;
        let info = sys::program_info(self.program(program)).map_err(|source| Error::Pin {
            operation: "read the size of program",
            path: program.name().into(),
            source,
        })?;
        Ok(ProgramSize {
            instructions: info.xlated_bytes / INSTRUCTION_BYTES,
            verified: info.verified_insns,
            machine_bytes: info.jited_bytes,
        })
    }
}
