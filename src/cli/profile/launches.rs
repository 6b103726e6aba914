//! `pbe profile --plan`: the launches that a network's programs become, in order.

use pbe::engine::profile::{KernelLaunch, ModeProfile};
use pbe::error::{Error, Result};
use serde::Serialize;

use super::{ProfileArgs, Workload};

/// A mode's launches, with `--json`.
#[derive(Serialize)]
struct ModeLaunches<'a> {
    mode: String,
    launches: Vec<LaunchRow<'a>>,
}

#[derive(Serialize)]
struct LaunchRow<'a> {
    op: &'a str,
    shape: &'a str,
    in_loop: bool,
    #[serde(flatten)]
    launch: &'a KernelLaunch,
}

pub fn text(args: &ProfileArgs, workload: &Workload) -> Result<String> {
    let profiles = args.profiles(workload)?;
    if args.compute.json {
        let modes: Vec<ModeLaunches> = profiles.iter().map(mode).collect();
        return serde_json::to_string_pretty(&modes).map(|text| text + "\n").map_err(Error::run);
    }
    let mut text = format!("{}, {}\n", workload.words, args.compute.cuda_precision());
    for profile in &profiles {
        let launches = mode(profile).launches;
        let steps = launches.iter().filter(|launch| launch.in_loop).count();
        let steps = if steps > 0 { format!(", {steps} of them a PGD step") } else { String::new() };
        text += &format!("\n{}: {} launches{steps}\n", profile.mode, launches.len());
        for LaunchRow { op, shape, launch, .. } in launches {
            let [x, y] = launch.grid;
            let fused = launch.fused.iter().map(|what| format!(" + {what}")).collect::<String>();
            text += &format!("  {} <{x}, {y}>: {op}{fused} {shape}\n", launch.kernel);
            for buffer in &launch.buffers {
                let megabytes = buffer.bytes as f64 / 1e6;
                text += &format!(
                    "      {} {} at {}, {megabytes:.3} MB\n",
                    buffer.name, buffer.dtype, buffer.place
                );
            }
        }
    }
    Ok(text)
}

fn mode(profile: &ModeProfile) -> ModeLaunches<'_> {
    let launches = profile.ops.iter().flat_map(|op| {
        op.launches.iter().map(|launch| LaunchRow {
            op: op.op,
            shape: &op.shape,
            in_loop: op.in_loop,
            launch,
        })
    });
    ModeLaunches { mode: profile.mode.to_string(), launches: launches.collect() }
}
