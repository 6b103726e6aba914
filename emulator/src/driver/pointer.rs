//! What an address is.

use super::abi::{Address, Handle, In, Out, export};
use super::device::Purpose;
use super::state::driver;
use super::status::{Result, Status};

const HOST: u32 = 1;
const DEVICE: u32 = 2;

enum Value {
    Half(u32),
    Whole(u64),
}

struct Known {
    context: Handle,
    memory: u32,
    start: u64,
    bytes: u64,
    host: bool,
    device: bool,
    managed: bool,
}

fn known(address: Address) -> Result<Known> {
    let driver = driver()?;
    if let Some((start, one)) = driver.device.allocation(address) {
        return Ok(Known {
            context: one.context,
            memory: if one.purpose == Purpose::Mapped { HOST } else { DEVICE },
            start,
            bytes: one.bytes,
            host: matches!(one.purpose, Purpose::Mapped | Purpose::Managed),
            device: true,
            managed: one.purpose == Purpose::Managed,
        });
    }
    let (start, bytes, _) = driver.host.containing(address as usize).ok_or(Status::INVALID_VALUE)?;
    let (start, bytes) = (start as u64, bytes as u64);
    Ok(Known { context: 0, memory: HOST, start, bytes, host: true, device: false, managed: false })
}

fn attribute(known: &Known, which: u32, address: Address) -> Result<Value> {
    Ok(match which {
        1 => Value::Whole(known.context as u64),
        2 => Value::Half(known.memory),
        3 if known.device => Value::Whole(address),
        4 if known.host => Value::Whole(address),
        7 => Value::Whole(known.start),
        8 => Value::Half(known.managed.into()),
        9 => Value::Half(0),
        11 => Value::Whole(known.start),
        12 => Value::Whole(known.bytes),
        13 => Value::Half(known.device.into()),
        _ => return Err(Status::INVALID_VALUE),
    })
}

fn write(value: Value, to: Out<u32>) -> Result {
    match value {
        Value::Half(value) => to.set(value),
        Value::Whole(value) => to.cast::<u64>().set(value),
    }
}

export! {
    /// One attribute.
    fn cuPointerGetAttribute(value: Out<u32>, which: u32, address: Address) {
        write(attribute(&known(address)?, which, address)?, value)
    }

    /// Several; those that an address doesn't have are 0.
    fn cuPointerGetAttributes(count: u32, which: In<u32>, values: In<Out<u32>>, address: Address) {
        driver()?;
        let known = known(address).ok();
        for index in 0..count as usize {
            let (which, to) = (which.at(index)?, values.at(index)?);
            let value = known.as_ref().and_then(|known| attribute(known, which, address).ok());
            match (value, which) {
                (Some(value), _) => write(value, to)?,
                (None, 1 | 3 | 4 | 7 | 11 | 12) => to.cast::<u64>().set(0)?,
                (None, 9) => to.set(u32::MAX - 1)?,
                (None, _) => to.set(0)?,
            }
        }
        Ok(())
    }
}
