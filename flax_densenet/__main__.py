"""`python -m flax_densenet` is `flax-densenet`."""

from flax_densenet.cli.interruption import exit_on_interrupt

exit_on_interrupt()  # before anything that takes time to import

from flax_densenet.cli.main import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
