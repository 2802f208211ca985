//! Checkpoints: round trips, refusals, detected damage, and faults while writing.

mod damage;
mod directory;
mod halves;
mod hostile;
mod hostile_shards;
mod import_files;
mod imports;
mod mismatches;
mod options;
mod poisoned;
mod round_trip;
mod run;
mod sharded;
mod sharded_faults;
mod writing;
