"""Updates: RAUC as recorded, the judge, the door."""
