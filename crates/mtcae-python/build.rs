//! What a module of Python needs of the linker, which finds Python's functions only as it is
//! loaded.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
