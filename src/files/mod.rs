//! Files and directories that are there whole or not at all, are one process's, and are nobody else's.

mod digest;
mod dir;
mod file;
mod fresh;
mod input_files;
mod lock;
mod names;
mod record;
mod stream;
mod system;

pub use digest::{digest_of, hex};
pub use dir::{Condition, discard_dir, glance_at_dir, make_dir, recover_dir, verify_dir, write_dir};
pub use file::{map_file, open_file, read_description, spare, write_file, write_file_with};
pub use fresh::Fresh;
pub use input_files::InputFiles;
pub use lock::{is_held, open_locked};
pub use names::{is_gguf, unfinished, with_suffix};
pub use record::{INPUTS, Record};
pub use stream::{input_name, is_stream, output_name, read_bytes};
