//! Write-ahead log, segment files and recovery, over a disk behind a trait.
