# Shortcuts; each line works without just, too.

# Everything that must hold before a change lands.
ci:
    .ci/run

# All tests; installs what they need.
test *ARGS:
    scripts/test {{ARGS}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets -- -D warnings

# A story from the embedded model.
demo:
    cargo run --release -p anser-cli -- generate "Once upon a time"
