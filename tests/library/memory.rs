//! The memory that a plan predicts is what the opened engine holds.

use pbe::data::Normalisation;
use pbe::device::Device;
use pbe::device::cpu::CpuDevice;
use pbe::device::reference::ReferenceDevice;
use pbe::engine::{Engine, EngineOptions, EnginePlan};
use pbe::model::{Architecture, NetworkKind, Weights};

#[test]
fn the_need_is_known_before_anything_is_allocated() {
    let architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 3, classes: 7, channels: 3 };
    let weights = Weights::initialise(architecture, 1);
    let graph = architecture.graph(&Normalisation::identity(3), 12, 20).unwrap();
    let devices: [Box<dyn Device>; 3] = [
        Box::new(CpuDevice::new(Some(1)).unwrap()),
        Box::new(CpuDevice::new(Some(3)).unwrap()),
        Box::new(ReferenceDevice::default()),
    ];
    for device in &devices {
        for (batch, attack) in [(0, false), (0, true), (1, false), (40, true), (2000, true)] {
            let options = EngineOptions { batch, attack, ..EngineOptions::default() };
            let plan = EnginePlan::new(device.as_ref(), &graph, &options).unwrap();
            let engine = Engine::open(device.as_ref(), &graph, &weights.values, &options).unwrap();
            assert_eq!(plan.bytes(device.as_ref()), engine.bytes(), "{} {options:?}", device.describe());
        }
    }
}
