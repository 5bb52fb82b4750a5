//! Real services under a real supervisor: order, crashes, stops that hang, leases, restarts.

mod bench;

use bench::{Bench, program};

#[tokio::test]
async fn services_start_in_order_and_stop_in_reverse() {
    let (a, b, c) = (program("a"), program("b"), program("c"));
    let mut bench = Bench::new(&[&a, &b, &c]);
    bench.run(1).await;
    bench.until_running().await;
    bench::until("three starts", || bench.log().lines().count() == 3).await;
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(
        bench.log(),
        "start a\nstart b\nstart c\nstop c\nstop b\nstop a\n"
    );
    bench.finish().await;
}
