//! One binary for all integration tests: each links DataFusion, so that more binaries would cost minutes.

mod suite {
    mod bad_input;
    mod behaviour;
    mod evaluate;
    mod files;
    mod law;
    mod oracle;
    mod readme;
    mod support;
    mod tidy;
}
