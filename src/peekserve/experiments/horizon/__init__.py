"""What `horizon` attains, and at what cost: experiments `horizon-*`."""
