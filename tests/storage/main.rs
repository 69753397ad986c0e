//! Checkpoint storage and the store upon it: conformance, damage, failing disks, and a power cut at every effect.

mod conformance;
