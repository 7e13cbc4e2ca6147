//! TensorBoard event files: TFRecords of `Event` messages with scalar summaries. No crate in good upkeep writes them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// An event file that scalars are added to.
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a new event file in `dir`.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn create(dir: &Path) -> Result<Self> {
        let seconds = now().floor();
        let path = dir.join(format!("events.out.tfevents.{seconds:.0}.{}", std::process::id()));
        let create = || std::fs::create_dir_all(dir).and_then(|()| File::create(&path));
        let file = create().with_context(|| format!("{}: cannot be written", path.display()))?;
        let mut writer = Self { file, path };
        let mut event = Message::default();
        event.double(1, now()).bytes(3, b"brain.Event:2");
        writer.record(&event)?;
        Ok(writer)
    }

    /// Adds the scalars of a step.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn scalars<'a>(&mut self, step: usize, scalars: impl Iterator<Item = (&'a str, f64)>) -> Result<()> {
        self.record(&scalars_event(now(), step, scalars))
    }

    fn record(&mut self, event: &Message) -> Result<()> {
        self.file.write_all(&record(event)).with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

fn scalars_event<'a>(time: f64, step: usize, scalars: impl Iterator<Item = (&'a str, f64)>) -> Message {
    let mut summary = Message::default();
    for (tag, value) in scalars {
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes()).float(2, value as f32);
        summary.bytes(1, &entry.0);
    }
    let mut event = Message::default();
    event.double(1, time).integer(2, step as u64).bytes(5, &summary.0);
    event
}

/// Length, checksum of the length, data, checksum of the data.
fn record(event: &Message) -> Vec<u8> {
    let length = (event.0.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(&event.0);
    record.extend(masked_checksum(&event.0).to_le_bytes());
    record
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |duration| duration.as_secs_f64())
}

/// The TFRecord format's CRC32C: rotated and offset, so that data that holds checksums does not confuse it.
fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protocol buffer message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn double(&mut self, field: u8, value: f64) -> &mut Self {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, field: u8, value: f32) -> &mut Self {
        self.0.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn integer(&mut self, field: u8, value: u64) -> &mut Self {
        self.0.push(field << 3);
        self.varint(value);
        self
    }

    fn bytes(&mut self, field: u8, value: &[u8]) -> &mut Self {
        self.0.push(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_tensorboards() {
        // Written by tensorboard 2.21 (summary.writer.record_writer.RecordWriter) of the same event.
        let expected = "2600000000000000734fe30009000000000000f83f10ac022a180a0b0a046c6f7373150000803e0a090a026b6c15000000c0\
                        81ec4149";
        let event = scalars_event(1.5, 300, [("loss", 0.25), ("kl", -2.0)].into_iter());
        let hex: String = record(&event).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
