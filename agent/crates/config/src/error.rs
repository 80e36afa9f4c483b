//! Every way configuration can be wrong.

use std::io;
use std::path::PathBuf;

/// Why the configuration cannot be used. Display says this layer only.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder could not be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any configuration is.
    #[error("configuration {} is larger than {max_bytes} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
    /// A document is not YAML.
    #[error("understand configuration {}: the document that starts at line {line} is not valid YAML: {problem}", path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// First line of the document, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A document is of a kind that nobody here reads.
    #[error("configuration {}: document at line {line}: {problem}", path.display())]
    Document {
        /// Which file.
        path: PathBuf,
        /// First line of the document, from 1.
        line: usize,
        /// What is wrong with its `apiVersion` and `kind`.
        problem: String,
    },
    /// A field has a value that cannot be.
    #[error("configuration {}: {kind}: {field}: {problem}", origin.display())]
    Field {
        /// The file, or what stands for it: several merged files, the flags.
        origin: PathBuf,
        /// The document's kind.
        kind: &'static str,
        /// The field's path.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A document has fields that its kind does not.
    #[error("configuration {}: {kind} has no field {}", origin.display(), fields.join(", "))]
    Unknown {
        /// The file.
        origin: PathBuf,
        /// The document's kind.
        kind: &'static str,
        /// Their paths.
        fields: Vec<String>,
    },
    /// A flag has a value that cannot be.
    #[error("--{flag} {value:?} ({}): {problem}", origin.display())]
    Flag {
        /// Where the flag stands.
        origin: PathBuf,
        /// Its name.
        flag: String,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: String,
    },
    /// A line of an environment file cannot be understood.
    #[error("{}: line {line}: {problem}", path.display())]
    Environment {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}
