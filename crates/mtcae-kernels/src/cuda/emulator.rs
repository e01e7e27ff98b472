//! The kernels on the CPU (`cuda/host/emulator.cpp`), for tests without a GPU.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use super::{Argument, Launch};

unsafe extern "C" {
    fn mtcae_emulate(
        name: *const c_char,
        grid: *const c_uint,
        block: c_uint,
        shared: c_uint,
        arguments: *mut *mut c_void,
    ) -> c_int;
}

/// Runs launches on the CPU. Slow, and meant for small shapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Emulator;

impl Emulator {
    /// Runs one launch to its end.
    ///
    /// # Errors
    /// When there is no such kernel, or its threads wait for each other for ever.
    ///
    /// # Safety
    /// Every address of the launch must be that of memory as large as the kernel's
    /// operand, writable where it is a result.
    pub unsafe fn run(&self, launch: &Launch) -> Result<(), String> {
        let name = CString::new(launch.function.as_str()).map_err(|e| e.to_string())?;
        let mut arguments = launch.arguments.clone();
        let mut pointers: Vec<*mut c_void> = arguments
            .iter_mut()
            .map(|argument| match argument {
                Argument::Address(a) => std::ptr::from_mut(a).cast(),
                Argument::U32(n) => std::ptr::from_mut(n).cast(),
                Argument::F32(x) => std::ptr::from_mut(x).cast(),
            })
            .collect();
        // SAFETY: `pointers` are those of as many arguments as the kernel has, each of
        // its type; that their addresses hold is the caller's promise. Each thread has
        // a machine of its own.
        let code = unsafe {
            mtcae_emulate(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.block,
                launch.shared,
                pointers.as_mut_ptr(),
            )
        };
        match code {
            0 => Ok(()),
            1 => Err(format!("there is no kernel {}", launch.function)),
            _ => Err(format!(
                "{}: its threads wait for each other for ever",
                launch.function
            )),
        }
    }
}
