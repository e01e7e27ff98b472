//! The PTX that the build script made.

include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
