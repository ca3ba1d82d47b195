package durable

import "time"

// prune deletes ended runs that are too old or too many, from time to time.
func (ex *executor) prune() {
	if ex.opts.Retention == 0 && ex.opts.MaxEnded == 0 {
		return
	}
	every := time.Minute
	if ex.opts.Retention > 0 {
		every = min(max(ex.opts.Retention/20, time.Second), time.Hour)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ex.life.Done():
			return
		case now := <-tick.C:
			var before int64
			if ex.opts.Retention > 0 {
				before = now.Add(-ex.opts.Retention).UnixMicro()
			}
			n, err := ex.st.Prune(ex.life, before, ex.opts.MaxEnded)
			switch {
			case err != nil && ex.life.Err() == nil:
				ex.log.Warn("ended runs were not deleted", "error", err)
			case n > 0:
				ex.log.Info("ended runs deleted", "runs", n)
			}
		}
	}
}
