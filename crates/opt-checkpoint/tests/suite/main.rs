//! Checkpoints: what comes back, what is refused, what is found, and what survives.

mod damage;
mod directory;
mod hostile;
mod imports;
mod mismatches;
mod options;
mod round_trip;
mod run;
mod writing;
