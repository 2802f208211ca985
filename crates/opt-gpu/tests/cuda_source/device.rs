//! What a machine without CUDA says.

use opt_gpu::{CudaDevice, DeviceError};

#[test]
fn without_cuda_the_error_says_what_is_missing() {
    match CudaDevice::new(0) {
        Ok(device) => println!("there is one: {device:?}"),
        Err(error @ DeviceError::Missing { .. }) => {
            let message = error.to_string();
            assert!(["libcuda", "libnvrtc", "a GPU"].iter().any(|what| message.contains(what)), "{message}");
        }
        Err(error) => panic!("{error}"),
    }
}
