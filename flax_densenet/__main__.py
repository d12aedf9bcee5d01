"""`python -m flax_densenet` is `flax-densenet`."""

from flax_densenet.commands.main import main

if __name__ == "__main__":
    raise SystemExit(main())
