"""Which appliance draws this current: waveforms of uneven length, three variants."""
