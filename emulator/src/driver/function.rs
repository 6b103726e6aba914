//! Attributes of functions.

use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::Ordering;

use super::abi::{Handle, Out, export};
use super::context::Context;
use super::model::{BLOCK, SHARED_DEFAULT};
use super::module::Function;
use super::state::driver;
use super::status::{Result, Status};

const MAX_DYNAMIC: u32 = 8;
const CARVEOUT: u32 = 9;

impl Function {
    /// Bytes of dynamic shared memory that a launch may have.
    pub fn max_dynamic(&self) -> u32 {
        match self.dynamic.load(Ordering::Relaxed) {
            0 => SHARED_DEFAULT.saturating_sub(self.kernel.shared_bytes),
            asked => asked - 1,
        }
    }

    /// Registers of a thread, about: an assembler may need more or fewer than are alive at once.
    pub fn registers(&self) -> u32 {
        self.kernel.registers.clamp(8, 255)
    }

    /// Threads of a block, at most.
    pub fn max_threads(&self) -> u32 {
        let required = self.kernel.required_threads.map(|sizes| sizes.iter().product());
        required.or(self.kernel.max_threads).unwrap_or(BLOCK).min(BLOCK)
    }

    fn c_name(&self) -> &CStr {
        self.text.get_or_init(|| CString::new(self.kernel.name.as_str()).unwrap_or_default())
    }

    fn attribute(&self, which: u32) -> Result<i32> {
        let ((major, minor), _) = self.origin;
        let value = match which {
            0 => self.max_threads(),
            1 => self.kernel.shared_bytes,
            3 => self.kernel.local_bytes,
            4 => self.registers(),
            5 => major * 10 + minor,
            6 => driver()?.device.model.architecture(),
            MAX_DYNAMIC => self.max_dynamic(),
            CARVEOUT => self.carveout.load(Ordering::Relaxed),
            // Constants of its own, caching, and all about clusters.
            2 | 7 | 10..=15 => 0,
            _ => return Err(Status::INVALID_VALUE),
        };
        Ok(value as i32)
    }

    fn set_attribute(&self, which: u32, value: i32) -> Result {
        match which {
            MAX_DYNAMIC => {
                let most = driver()?.device.model.shared_block.saturating_sub(self.kernel.shared_bytes);
                let asked = u32::try_from(value).ok().filter(|&bytes| bytes <= most);
                self.dynamic.store(asked.ok_or(Status::INVALID_VALUE)? + 1, Ordering::Relaxed);
            }
            CARVEOUT if (-1..=100).contains(&value) => self.carveout.store(value as u32, Ordering::Relaxed),
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    }
}

export! {
    /// Reads an attribute.
    fn cuFuncGetAttribute(value: Out<i32>, which: u32, function: Handle) {
        Context::healthy()?;
        value.set(driver()?.functions.get(function)?.attribute(which)?)
    }

    /// Sets one of the few that can be.
    fn cuFuncSetAttribute(function: Handle, which: u32, value: i32) {
        Context::healthy()?;
        driver()?.functions.get(function)?.set_attribute(which, value)
    }

    /// A preference without effect.
    fn cuFuncSetCacheConfig(function: Handle, preference: u32) {
        Context::healthy()?;
        driver()?.functions.get(function)?;
        if preference > 3 { Err(Status::INVALID_VALUE) } else { Ok(()) }
    }

    /// A preference without effect.
    fn cuFuncSetSharedMemConfig(function: Handle, banks: u32) {
        Context::healthy()?;
        driver()?.functions.get(function)?;
        if banks > 2 { Err(Status::INVALID_VALUE) } else { Ok(()) }
    }

    /// Its module.
    fn cuFuncGetModule(module: Out<Handle>, function: Handle) {
        module.set(driver()?.functions.get(function)?.module)
    }

    /// Its name, which stays readable as long as the function.
    fn cuFuncGetName(name: Out<*const c_char>, function: Handle) {
        let function = driver()?.functions.get(function)?;
        name.set(function.c_name().as_ptr())
    }

    /// Offset and size of a parameter.
    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let function = driver()?.functions.get(function)?;
        let param = function.kernel.params.get(index).ok_or(Status::INVALID_VALUE)?;
        offset.set(param.offset as usize)?;
        bytes.set_if_wanted(param.size as usize);
        Ok(())
    }

    /// Functions are loaded with their module.
    fn cuFuncLoad(function: Handle) {
        driver()?.functions.get(function).map(|_| ())
    }

    /// Functions are loaded with their module.
    fn cuFuncIsLoaded(state: Out<u32>, function: Handle) {
        driver()?.functions.get(function)?;
        state.set(1)
    }
}
