# Shortcuts; each line works without just, too.

# Everything that must hold before a change lands.
ci:
    .ci/run

# All tests; installs what they need.
test:
    scripts/test

# Tests of the crates; arguments go to cargo test.
test-rust *ARGS:
    scripts/test-rust {{ARGS}}

# Tests of the Python package; arguments go to pytest.
test-python *ARGS:
    scripts/test-python {{ARGS}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets -- -D warnings

# A story from the embedded model.
demo:
    cargo run --release -p anser-cli -- generate "Once upon a time"
