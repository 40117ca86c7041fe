package server

import "time"

// SetClock gives the listener a clock of its own, before it serves.
func (l *TLSListener) SetClock(now func() time.Time) { l.now = now }

// SetGrace sets how long Serve lets what is under way finish.
func (s *Server) SetGrace(d time.Duration) { s.grace = d }
