//! `anser-web-bindgen MODULE.wasm NAME FOLDER`: writes the JavaScript module that calls a WebAssembly module, its types, and the module without
//! names. It is built with the version of wasm-bindgen that the workspace's lock file has, so that both sides agree on their interface.

use std::env;
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [module, name, folder] = &arguments[..] else {
        eprintln!("expected a module, a name and a folder: anser-web-bindgen MODULE.wasm NAME FOLDER");
        return ExitCode::FAILURE;
    };
    let written = Bindgen::new().input_path(module).web(true).and_then(|bindgen| {
        bindgen
            .out_name(name)
            .omit_default_module_path(false)
            .typescript(true)
            .remove_name_section(true)
            .remove_producers_section(true)
            .generate(folder)
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{module}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
