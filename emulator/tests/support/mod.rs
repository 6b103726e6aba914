//! Running kernels from PTX without the driver.

#![allow(dead_code)]

use ptx_emulator::exec::{self, Counters, Launch, Settings};
use ptx_emulator::fault::Fault;
use ptx_emulator::ir::Module;
use ptx_emulator::memory::{GlobalMemory, Shadows};
use ptx_emulator::ptx;

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub enum Argument {
    Int(i32),
    Float(f32),
    Pointer(u64),
    /// A struct of 64 bytes.
    Block([u8; 64]),
}

impl From<i32> for Argument {
    fn from(value: i32) -> Argument {
        Argument::Int(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Argument {
        Argument::Float(value)
    }
}

impl From<u64> for Argument {
    fn from(value: u64) -> Argument {
        Argument::Pointer(value)
    }
}

/// A loaded module and the memory that it runs in.
pub struct Program {
    pub module: Module,
    pub memory: GlobalMemory,
    pub settings: Settings,
    variables: Vec<u64>,
}

impl Program {
    pub fn new(text: &str) -> Program {
        let module = ptx::load(text).unwrap();
        let memory = GlobalMemory::new(1 << 26, Shadows::ALL).unwrap();
        let variables = module
            .variables
            .iter()
            .map(|variable| {
                let at = memory.allocate(variable.bytes.len().max(1) as u64).unwrap();
                memory.write(at, &variable.bytes).unwrap();
                at
            })
            .collect();
        let settings = Settings { limit: 50_000_000, ..Settings::default() };
        Program { module, memory, settings, variables }
    }

    pub fn with_seed(text: &str, seed: u64) -> Program {
        let mut program = Program::new(text);
        program.settings.seed = seed;
        program
    }

    /// Device memory that holds these values.
    pub fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let at = self.memory.allocate(size_of_val(values) as u64).unwrap();
        // SAFETY: plain numbers, read as bytes.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        self.memory.write(at, bytes).unwrap();
        at
    }

    /// Device memory that nothing has written.
    pub fn empty<T>(&self, count: usize) -> u64 {
        self.memory.allocate((count * size_of::<T>()) as u64).unwrap()
    }

    pub fn download<T: Copy + Default>(&self, at: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        let length = size_of_val(&values[..]);
        // SAFETY: plain numbers, written as bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), length) };
        self.memory.read(at, bytes).unwrap();
        values
    }

    pub fn try_run(
        &self,
        name: &str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<Counters, Box<Fault>> {
        let kernel = self.module.kernels.iter().find(|kernel| kernel.name == name).unwrap();
        assert_eq!(kernel.params.len(), arguments.len(), "{name}");
        let mut params = vec![0; kernel.param_bytes as usize];
        for (param, argument) in kernel.params.iter().zip(arguments) {
            let bytes = match argument {
                Argument::Int(value) => value.to_le_bytes().to_vec(),
                Argument::Float(value) => value.to_le_bytes().to_vec(),
                Argument::Pointer(value) => value.to_le_bytes().to_vec(),
                Argument::Block(bytes) => bytes.to_vec(),
            };
            let at = param.offset as usize;
            params[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let launch = Launch { params, variables: self.variables.clone(), ..launch };
        exec::launch(kernel, &launch, &self.memory, &self.settings)
    }

    pub fn run(&self, name: &str, launch: Launch, arguments: &[Argument]) -> Counters {
        self.try_run(name, launch, arguments).unwrap_or_else(|fault| panic!("{fault:#?}"))
    }
}

/// A launch in one dimension.
pub fn line(blocks: u32, threads: u32) -> Launch {
    Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], ..Launch::default() }
}

/// Numbers that look random, in -1..1, exact in bf16.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 24) as f32 - 128.0) / 128.0
        })
        .collect()
}
