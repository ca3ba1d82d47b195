package main

import "slices"

// shrink looks for a smaller program that still fails. It takes things away,
// one at a time, until nothing more can go.
func shrink(p *Program, tries int, fails func(*Program) bool) *Program {
	for {
		smaller := false
		for _, cut := range cuts(p) {
			if tries--; tries < 0 {
				return p
			}
			undo := cut()
			if undo == nil {
				continue
			}
			if p.whole() && fails(p) {
				smaller = true
				continue
			}
			undo()
		}
		if !smaller {
			return p
		}
	}
}

// whole reports whether the flows that are called are there.
func (p *Program) whole() bool {
	var ok func(body []*Stmt) bool
	ok = func(body []*Stmt) bool {
		for _, s := range body {
			if s.Flow >= len(p.Flows) || !ok(s.Body) {
				return false
			}
			for _, m := range s.Members {
				if !ok(m) {
					return false
				}
			}
		}
		return true
	}
	for _, f := range p.Flows {
		if !ok(f.Body) {
			return false
		}
		for _, h := range f.Updates {
			if !ok(h.Body) {
				return false
			}
		}
	}
	return true
}

// cuts are the ways to make a program smaller. Each changes it and gives back
// what undoes the change, or nil if there was nothing to do any more.
func cuts(p *Program) []func() (undo func()) {
	var out []func() func()
	for i := len(p.Script) - 1; i >= 0; i-- {
		out = append(out, remove(&p.Script, p.Script[i]))
	}
	for _, a := range p.Script {
		if a.Do == DoStart {
			out = append(out, zero(&a.D), zero(&a.Limit), zero(&a.Also), zero(&a.Reuse), zero(&a.Val))
		}
	}
	for _, f := range p.Flows {
		out = append(out, zero(&f.Timeout))
		for _, h := range f.Updates {
			out = append(out, zero(&h.Even))
			out = bodyCuts(out, &h.Body)
		}
		if n := len(f.Updates); n > 0 {
			out = append(out, remove(&f.Updates, f.Updates[n-1]))
		}
		out = bodyCuts(out, &f.Body)
	}
	if n := len(p.Flows); n > 1 {
		out = append(out, remove(&p.Flows, p.Flows[n-1]))
	}
	return out
}

func bodyCuts(out []func() func(), body *[]*Stmt) []func() func() {
	for _, s := range *body {
		out = append(out, remove(body, s))
		if len(s.Body) > 0 {
			out = append(out, replace(body, s, s.Body))
		}
		for i, m := range s.Members {
			out = append(out, replace(body, s, m))
			out = append(out, func() func() {
				if i >= len(s.Members) {
					return nil
				}
				was := s.Members
				s.Members = slices.Delete(slices.Clone(was), i, i+1)
				return func() { s.Members = was }
			})
		}
		for i := range s.Cases {
			out = append(out, func() func() {
				if i >= len(s.Cases) || len(s.Cases) == 1 {
					return nil
				}
				was := s.Cases
				s.Cases = slices.Delete(slices.Clone(was), i, i+1)
				return func() { s.Cases = was }
			})
		}
		out = append(out, zero(&s.Must), zero(&s.Policy))
		if s.Op != OpSleep && s.Op != OpWithin && s.Op != OpChild {
			out = append(out, zero(&s.D))
		}
		if p := s.Step; p != nil {
			out = append(out, zero(&p.Attempts), zero(&p.Timeout), zero(&p.Total), zero(&p.Once), zero(&p.Abandon), zero(&p.Rude))
			for range p.Outcomes {
				out = append(out, func() func() {
					if len(p.Outcomes) < 2 {
						return nil
					}
					was := p.Outcomes
					p.Outcomes = was[1:]
					return func() { p.Outcomes = was }
				})
			}
		}
		out = bodyCuts(out, &s.Body)
		for i := range s.Members {
			out = bodyCuts(out, &s.Members[i])
		}
	}
	return out
}

// zero takes a field away.
func zero[T comparable](at *T) func() func() {
	return func() func() {
		var none T
		was := *at
		if was == none {
			return nil
		}
		*at = none
		return func() { *at = was }
	}
}

// remove takes an element out of a list.
func remove[T comparable](list *[]T, x T) func() func() {
	return func() func() {
		was := *list
		i := slices.Index(was, x)
		if i < 0 {
			return nil
		}
		*list = slices.Delete(slices.Clone(was), i, i+1)
		return func() { *list = was }
	}
}

// replace puts what is in a block in the block's place.
func replace(list *[]*Stmt, s *Stmt, by []*Stmt) func() func() {
	return func() func() {
		was := *list
		i := slices.Index(was, s)
		if i < 0 {
			return nil
		}
		*list = slices.Replace(slices.Clone(was), i, i+1, by...)
		return func() { *list = was }
	}
}
