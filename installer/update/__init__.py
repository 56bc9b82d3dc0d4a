"""Updates of an installed box: into the slot that does not run, through RAUC, and back again.

    bundle (signed)  ->  RAUC: signature, compatible  ->  the bundle's own check: `judge`  ->  the other slot
       ->  restart  ->  `r1box-install prove-slot` marks it good, or the boot loader takes the old one again

| module | what |
|---|---|
| `facts` | what a bundle says of itself beside RAUC's manifest: kernel, engines, the rules they stand under |
| `judge` | whether the cards of this box would still work with that; pure |
| `rauc` | RAUC's commands and what it prints (1.8) |
| `work` | install, go back, restart: what is refused and why |
| `door` | the one door for the daemon, which is no root: a line of JSON in, lines of JSON out, on a socket of systemd |
| `cli` | ``r1box-install update ...`` |

Models, state and settings are outside the slots; the daemon copies its database before it migrates it.
"""
