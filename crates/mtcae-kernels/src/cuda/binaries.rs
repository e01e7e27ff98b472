//! The modules that the build script made.

include!(concat!(env!("OUT_DIR"), "/binaries.rs"));
