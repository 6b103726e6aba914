//! The devices that can be emulated: figures of real ones, by compute capability.

/// What differs between devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Compute capability.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub processors: u32,
    /// Threads on a multiprocessor.
    pub threads: u32,
    /// Blocks on a multiprocessor.
    pub blocks: u32,
    /// Bytes of shared memory of a multiprocessor.
    pub shared: u32,
    /// Bytes of shared memory that a block may ask for.
    pub shared_block: u32,
    /// Bytes of shared memory that the system takes from every block.
    pub shared_reserved: u32,
    /// kHz.
    pub clock: u32,
    /// kHz.
    pub memory_clock: u32,
    /// Bits.
    pub bus: u32,
    /// Bytes.
    pub second_level: u32,
}

/// Registers of a multiprocessor, of 32 bits.
pub const REGISTERS: u32 = 65536;
/// Dynamic shared memory that a block may have without asking.
pub const SHARED_DEFAULT: u32 = 48 << 10;
/// Threads of a block.
pub const BLOCK: u32 = 1024;

const fn model(
    capability: (u32, u32),
    processors: u32,
    threads: u32,
    blocks: u32,
    shared: [u32; 3],
    rest: [u32; 4],
) -> Model {
    let [shared, shared_block, shared_reserved] = shared;
    let [clock, memory_clock, bus, second_level] = rest;
    Model {
        capability,
        processors,
        threads,
        blocks,
        shared: shared << 10,
        shared_block: shared_block << 10,
        shared_reserved: shared_reserved << 10,
        clock,
        memory_clock,
        bus,
        second_level: second_level << 20,
    }
}

/// V100, T4, A100, A40, L40S, H100, B200, RTX 5090.
const MODELS: [Model; 8] = [
    model((7, 0), 80, 2048, 32, [96, 96, 0], [1_530_000, 877_000, 4096, 6]),
    model((7, 5), 40, 1024, 16, [64, 64, 0], [1_590_000, 5_001_000, 256, 4]),
    model((8, 0), 108, 2048, 32, [164, 163, 1], [1_410_000, 1_215_000, 5120, 40]),
    model((8, 6), 84, 1536, 16, [100, 99, 1], [1_740_000, 7_251_000, 384, 6]),
    model((8, 9), 142, 1536, 24, [100, 99, 1], [2_520_000, 9_001_000, 384, 96]),
    model((9, 0), 132, 2048, 32, [228, 227, 1], [1_980_000, 2_619_000, 5120, 50]),
    model((10, 0), 148, 2048, 32, [228, 227, 1], [1_965_000, 3_996_000, 8192, 126]),
    model((12, 0), 170, 1536, 24, [100, 99, 1], [2_407_000, 14_001_000, 512, 96]),
];

impl Model {
    /// The device of a compute capability.
    pub fn of(capability: (u32, u32)) -> Option<Model> {
        MODELS.into_iter().find(|model| model.capability == capability)
    }

    /// As `80` in `sm_80`.
    pub fn architecture(&self) -> u32 {
        self.capability.0 * 10 + self.capability.1
    }

    /// Value of a device attribute; none for a number that is no attribute.
    ///
    /// Source: CUDA C++ programming guide, technical specifications by compute capability. What the
    /// emulator can't do (textures, surfaces, peers, external memory, virtual memory management) reads 0.
    pub fn attribute(&self, attribute: u32) -> Option<u32> {
        Some(match attribute {
            // Sizes of a block and a grid.
            1..=3 => BLOCK,
            4 => 64,
            5 => 0x7fff_ffff,
            6 | 7 => 65535,
            8 => SHARED_DEFAULT,
            9 => 64 << 10,
            10 => 32,
            11 => 0x7fff_ffff,
            12 | 82 => REGISTERS,
            13 => self.clock,
            14 => 512,
            16 => self.processors,
            36 => self.memory_clock,
            37 => self.bus,
            38 => self.second_level,
            39 => self.threads,
            51 => 32,
            75 => self.capability.0,
            76 => self.capability.1,
            81 => self.shared,
            87 => {
                if matches!(self.capability, (7, 0) | (8, 0) | (9, 0) | (10, 0)) {
                    2
                } else {
                    32
                }
            }
            97 => self.shared_block,
            106 => self.blocks,
            111 => self.shared_reserved,
            // GPU_OVERLAP, CAN_MAP_HOST_MEMORY, CONCURRENT_KERNELS, UNIFIED_ADDRESSING, stream priorities,
            // L1 caches, managed memory and its concurrent access, preemption, cooperative launch, host
            // registration, memory pools.
            15 | 19 | 31 | 41 | 78 | 79 | 80 | 83 | 89 | 90 | 95 | 99 | 115 => 1,
            40 => 3,
            // PCI bus; memory synchronisation domains.
            33 | 126 => 1,
            17..=145 => 0,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_has_a_value() {
        let model = Model::of((8, 0)).unwrap();
        assert_eq!((model.attribute(75), model.attribute(76)), (Some(8), Some(0)));
        assert_eq!(model.attribute(97), Some(163 * 1024));
        assert!((1..=144).all(|attribute| model.attribute(attribute).is_some()));
        assert_eq!((model.attribute(0), model.attribute(1000)), (None, None));
        assert_eq!(Model::of((8, 1)), None);
    }
}
