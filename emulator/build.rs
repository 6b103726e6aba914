//! Gives the library the name that programs look for: once it is loaded, from wherever, a
//! `dlopen("libcuda.so")` in the same process gets it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
