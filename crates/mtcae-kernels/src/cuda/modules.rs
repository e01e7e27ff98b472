// The modules of `cuda/`, for the build script and the library alike; each uses a part.

/// Sources that are one module each.
#[allow(dead_code)]
pub(crate) const SOURCES: [&str; 9] = [
    "layer_norm",
    "gelu",
    "rows",
    "tubes",
    "adamw",
    "cross_entropy",
    "conv",
    "pool",
    "area",
];

/// The source that becomes a module for each of [`ELEMENTS`] and [`HEADS`].
pub(crate) const ATTENTION: &str = "attention";

/// Element types: the suffix of a kernel's name, and the type in C++.
#[allow(dead_code)]
pub(crate) const ELEMENTS: [(&str, &str); 3] = [("f32", "float"), ("bf16", "bf16"), ("f16", "f16")];

/// Head dimensions that attention is compiled for; any other is padded to the next.
pub(crate) const HEADS: [usize; 6] = [32, 64, 80, 128, 176, 256];
