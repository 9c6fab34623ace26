"""What runs the controllers: store, queue, reconciler, leader election, progress server, metrics. `wiring` alone imports kopf."""
