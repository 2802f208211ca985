//! The report on this machine's adapter, as fast as possible.

use std::process::Command;

use opt_gpu::WgpuDevice;
use serde_json::Value;

#[test]
fn the_quick_report_has_everything() {
    if let Err(error) = WgpuDevice::new() {
        assert!(std::env::var_os("OPT_GPU_REQUIRED").is_none(), "{error}");
        eprintln!("not tested: {error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut report = Command::new(env!("CARGO_BIN_EXE_gpu-report"));
    let output = report.args(["--device", "wgpu", "--quick", "--out"]).arg(folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("| 1M | adam |") && text.contains(" 0 FAILED"), "{text}");

    let json: Value = serde_json::from_slice(&std::fs::read(folder.path().join("gpu.json")).unwrap()).unwrap();
    let list = |key: &str| json[key].as_array().unwrap().clone();
    assert!(list("parity").len() > 40);
    assert_eq!((list("rows").len(), list("left_out").len()), (26, 0));
    for row in list("rows") {
        let is_positive = |key: &str| row[key].as_f64().unwrap() > 0.0;
        assert!(["ns_per_param", "gb_per_s", "fraction_of_copy", "launches"].into_iter().all(is_positive), "{row}");
    }
    assert!(json["copy"]["gb_per_s"].as_f64().unwrap() > 0.0 && json["torch"].is_null());
}
