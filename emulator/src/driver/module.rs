//! Modules: PTX text in, functions and variables out.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::fs;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::abi::{Address, Handle, Host, In, Out, Text, export};
use super::context::Context;
use super::device::Purpose;
use super::state::{Driver, PTX_VERSION, driver};
use super::status::{Result, Status};
use super::table::lock;
use crate::ir::{self, Kernel};
use crate::{patches, ptx};

/// A loaded module.
pub struct Module {
    /// Its context.
    pub context: Handle,
    handle: Handle,
    code: ir::Module,
    variables: Arc<Vec<Address>>,
    functions: Mutex<HashMap<String, Handle>>,
}

/// A kernel of a module.
pub struct Function {
    /// Its context.
    pub context: Handle,
    /// Its module.
    pub module: Handle,
    /// Its code.
    pub kernel: Arc<Kernel>,
    /// Addresses of the module's variables.
    pub variables: Arc<Vec<Address>>,
    /// The version and target of the module's text.
    pub origin: ((u32, u32), u32),
    /// Bytes of dynamic shared memory that were asked for, plus one; 0 if none were.
    pub dynamic: AtomicU32,
    /// Preferred part of the cache that is shared memory.
    pub carveout: AtomicU32,
    /// Its name as C text, made when it is asked for.
    pub text: OnceLock<CString>,
}

/// Why an image can't be loaded: the code, and a line for the log.
type Refused = (Status, String);

const ELF: &[u8] = b"\x7fELF";
const FAT_BINARY: [&[u8]; 2] = [&[0x50, 0xed, 0x55, 0xba], &[0xb1, 0x43, 0x62, 0x46]];

fn parse(driver: &Driver, image: &[u8]) -> std::result::Result<ir::Module, Refused> {
    if image.starts_with(ELF) || FAT_BINARY.iter().any(|magic| image.starts_with(magic)) {
        return Err((Status::NO_BINARY_FOR_GPU, "machine code; only PTX text can be run here".to_string()));
    }
    let Ok(text) = std::str::from_utf8(image) else {
        return Err((Status::INVALID_IMAGE, "neither PTX text nor machine code".to_string()));
    };
    let Some(version) = version(text) else {
        return Err((Status::INVALID_IMAGE, "no .version directive: this isn't PTX".to_string()));
    };
    if version > PTX_VERSION {
        let (newest, own) = (PTX_VERSION, version);
        let message = format!("PTX {}.{} is newer than {}.{}", own.0, own.1, newest.0, newest.1);
        return Err((Status::UNSUPPORTED_PTX_VERSION, message));
    }
    let invalid = |message: String| (Status::INVALID_PTX, message);
    let (text, done) =
        patches::apply(text, &driver.config.patches).map_err(|error| invalid(error.to_string()))?;
    done.iter().for_each(|one| eprintln!("ptx-emulator: {one}"));
    let module = ptx::load(&text).map_err(|error| invalid(error.to_string()))?;
    let model = &driver.device.model;
    if module.target > model.architecture() {
        let (target, own) = (module.target, model.architecture());
        return Err((Status::INVALID_PTX, format!(".target sm_{target} is newer than the device, sm_{own}")));
    }
    Ok(module)
}

/// The version in the first `.version` line: looked at before all else, as newer text may hold anything.
fn version(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(".version"))?;
    let word = line.split_whitespace().next()?;
    let (major, minor) = word.trim_end_matches(';').split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Allocates the variables, writes their content, then the addresses in it.
fn allocate(driver: &Driver, context: &Context, code: &ir::Module) -> Result<Vec<Address>> {
    let device = &driver.device;
    let mut addresses = Vec::new();
    for variable in &code.variables {
        let bytes = variable.bytes.len().max(1) as u64;
        match device.allocate(bytes, context.handle, Purpose::Variable, None) {
            Ok(address) => addresses.push(address),
            Err(status) => {
                free(driver, &addresses);
                return Err(status);
            }
        }
    }
    for (variable, &address) in code.variables.iter().zip(&addresses) {
        let mut bytes = variable.bytes.clone();
        for pointer in &variable.pointers {
            let target = addresses.get(pointer.variable).copied().ok_or(Status::INVALID_PTX)?;
            let place = bytes.get_mut(pointer.offset..pointer.offset + 8).ok_or(Status::INVALID_PTX)?;
            place.copy_from_slice(&target.wrapping_add(pointer.addend).to_le_bytes());
        }
        device.memory.write(address, &bytes).map_err(|_| Status::INVALID_PTX)?;
    }
    Ok(addresses)
}

fn free(driver: &Driver, variables: &[Address]) {
    for &address in variables {
        // What the context's end has freed already isn't there any more.
        let _ = driver.device.free(address, |one| one.purpose == Purpose::Variable);
    }
}

fn load(module: Out<Handle>, image: &[u8], log: Option<&Log>) -> Result {
    let (driver, context) = (driver()?, Context::healthy()?);
    if !module.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    let started = Instant::now();
    let code = parse(driver, image).map_err(|(status, message)| {
        eprintln!("ptx-emulator: module can't be loaded: {message}");
        if let Some(log) = log {
            log.error(&message);
        }
        status
    })?;
    if let Some(log) = log {
        log.done(started);
    }
    let variables = Arc::new(allocate(driver, &context, &code)?);
    let context = context.handle;
    let new =
        driver.modules.add(|handle| Module { context, handle, code, variables, functions: Mutex::default() });
    module.set(new.handle)
}

impl Module {
    /// The function of a kernel; the same one each time.
    fn function(&self, driver: &Driver, kernel: &Arc<Kernel>) -> Handle {
        let make = || {
            let mut own = 0;
            driver.functions.add(|handle| {
                own = handle;
                Function {
                    context: self.context,
                    module: self.handle,
                    kernel: kernel.clone(),
                    variables: self.variables.clone(),
                    origin: (self.code.version, self.code.target),
                    dynamic: AtomicU32::new(0),
                    carveout: AtomicU32::new(u32::MAX),
                    text: OnceLock::new(),
                }
            });
            own
        };
        *lock(&self.functions).entry(kernel.name.clone()).or_insert_with(make)
    }
}

/// Where `cuModuleLoadDataEx` is to write what there is to say.
struct Log {
    time: Option<Out<f32>>,
    texts: [(usize, usize); 2],
}

const WALL_TIME: u32 = 2;
const INFO: u32 = 3;
const ERRORS: u32 = 5;

impl Log {
    /// Options and their values: a buffer's address and its size are options of their own. A size is given
    /// in the value itself, and the bytes used are written there.
    fn new(count: u32, keys: In<u32>, values: Out<usize>) -> Result<Log> {
        let mut log = Log { time: None, texts: [(0, 0); 2] };
        for index in 0..count as usize {
            let value = values.get_at(index)?;
            match keys.at(index)? {
                WALL_TIME => log.time = Some(values.at(index).cast()),
                key @ (INFO | ERRORS) => log.texts[usize::from(key == ERRORS)].0 = value,
                key if key == INFO + 1 || key == ERRORS + 1 => {
                    log.texts[usize::from(key == ERRORS + 1)].1 = value & 0xffff_ffff;
                    // Nothing is written yet.
                    values.at(index).cast::<u32>().set(0)?;
                }
                _ => {}
            }
        }
        Ok(log)
    }

    fn done(&self, started: Instant) {
        if let Some(time) = self.time {
            time.set_if_wanted(started.elapsed().as_secs_f32() * 1e3);
        }
    }

    fn error(&self, message: &str) {
        let (address, room) = self.texts[1];
        let to: Out<c_char> = Out::at_address(address);
        if to.wanted() {
            // It refuses only a buffer of size 0.
            let _ = to.set_text(&format!("ptx-emulator: {message}\n"), room);
        }
    }
}

export! {
    /// Loads PTX text.
    fn cuModuleLoadData(module: Out<Handle>, image: Text) {
        load(module, image.bytes()?, None)
    }

    /// Loads PTX text; errors go to the log too.
    fn cuModuleLoadDataEx(module: Out<Handle>, image: Text, count: u32, keys: In<u32>, values: Out<usize>) {
        let log = Log::new(count, keys, values)?;
        load(module, image.bytes()?, Some(&log))
    }

    /// Loads PTX text; real fat binaries can't be run.
    fn cuModuleLoadFatBinary(module: Out<Handle>, image: Text) {
        load(module, image.bytes()?, None)
    }

    /// Loads a file.
    fn cuModuleLoad(module: Out<Handle>, path: Text) {
        Context::healthy()?;
        let image = fs::read(path.text()?).map_err(|_| Status::FILE_NOT_FOUND)?;
        let end = image.iter().position(|&byte| byte == 0).unwrap_or(image.len());
        load(module, &image[..end], None)
    }

    /// Ends a module with its functions and variables.
    fn cuModuleUnload(module: Handle) {
        Context::current()?;
        let driver = driver()?;
        let gone = driver.modules.remove(module)?;
        driver.functions.retain(|function| function.module != module);
        free(driver, &gone.variables);
        Ok(())
    }

    /// The function of a name.
    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: Text) {
        Context::healthy()?;
        let (driver, name) = (driver()?, name.text()?);
        let module = driver.modules.get(module)?;
        let kernel = module.code.kernels.iter().find(|kernel| kernel.name == name);
        function.set(module.function(driver, kernel.ok_or(Status::NOT_FOUND)?))
    }

    /// How many functions.
    fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) {
        count.set(driver()?.modules.get(module)?.code.kernels.len() as u32)
    }

    /// The functions.
    fn cuModuleEnumerateFunctions(functions: Out<Handle>, count: u32, module: Handle) {
        let driver = driver()?;
        let module = driver.modules.get(module)?;
        let kernels = module.code.kernels.iter().take(count as usize);
        functions.set_all(&kernels.map(|kernel| module.function(driver, kernel)).collect::<Vec<_>>())
    }

    /// Address and size of a variable.
    fn cuModuleGetGlobal_v2(address: Out<Address>, bytes: Out<usize>, module: Handle, name: Text) {
        Context::healthy()?;
        let name = name.text()?;
        let module = driver()?.modules.get(module)?;
        let index = module.code.variables.iter().position(|variable| variable.name == name);
        let index = index.ok_or(Status::NOT_FOUND)?;
        address.set_if_wanted(module.variables[index]);
        bytes.set_if_wanted(module.code.variables[index].bytes.len());
        Ok(())
    }

    /// Modules are loaded at once.
    fn cuModuleGetLoadingMode(mode: Out<u32>) {
        driver()?;
        mode.set(1)
    }

    /// There are no textures.
    fn cuModuleGetTexRef(_reference: Host, module: Handle, _name: Text) {
        driver()?.modules.get(module)?;
        Err(Status::NOT_FOUND)
    }

    /// There are no surfaces.
    fn cuModuleGetSurfRef(_reference: Host, module: Handle, _name: Text) {
        driver()?.modules.get(module)?;
        Err(Status::NOT_FOUND)
    }
}
