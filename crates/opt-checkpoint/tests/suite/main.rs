//! Checkpoints: what comes back, what is refused, what is found, and what survives.

mod damage;
mod directory;
mod halves;
mod hostile;
mod hostile_shards;
mod imports;
mod mismatches;
mod options;
mod poisoned;
mod round_trip;
mod run;
mod sharded;
mod sharded_faults;
mod writing;
