package engines

import (
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errForm is a text that has not the form of what is wanted.
var errForm = errors.New("not of the form")

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errForm
}

func parseInt(s string) (int64, error) {
	digits, base := strings.ReplaceAll(s, "_", ""), 10
	if rest, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = rest, 16
	} else if rest, ok := strings.CutPrefix(digits, "0o"); ok {
		digits, base = rest, 8
	}
	i, err := strconv.ParseInt(digits, base, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("it is out of range")
	}
	if err != nil {
		return 0, errForm
	}
	return i, nil
}

// parseSize reads a number of bytes.
func parseSize(s string) (int64, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range []struct {
		unit   string
		factor int64
	}{{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(number), u.unit); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	i, err := parseInt(number)
	switch {
	case err != nil:
		return 0, errForm
	case i < 0:
		return 0, errors.New("it is negative")
	case i > math.MaxInt64/factor:
		return 0, errors.New("it is out of range")
	}
	return i * factor, nil
}

var isoDuration = regexp.MustCompile(`^P(?:([0-9.,]+)W)?(?:([0-9.,]+)D)?(?:T(?:([0-9.,]+)H)?(?:([0-9.,]+)M)?(?:([0-9.,]+)S)?)?$`)

// parseDuration reads a number of seconds, a Go duration or one of ISO 8601
// without years and months, which have no fixed length.
func parseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	seconds, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if err == nil {
		return durationOf(seconds)
	}
	if !strings.HasPrefix(s, "P") {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return 0, errors.New("want a duration: seconds (1.5), 90s, 1h30m or ISO 8601 (PT1H30M, P30D)")
		case d < 0:
			return 0, errors.New("a duration can't be negative")
		}
		return d, nil
	}
	m := isoDuration.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "T") || s == "P" {
		return 0, errors.New("want a duration of ISO 8601 without years and months, such as PT1H30M or P30D")
	}
	total := 0.0
	for i, unit := range []float64{7 * 24 * 3600, 24 * 3600, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		f, err := strconv.ParseFloat(strings.ReplaceAll(m[i+1], ",", "."), 64)
		if err != nil {
			return 0, errForm
		}
		total += f * unit
	}
	return durationOf(total)
}

func durationOf(seconds float64) (time.Duration, error) {
	switch {
	case math.IsNaN(seconds):
		return 0, errForm
	case seconds < 0:
		return 0, errors.New("a duration can't be negative")
	case seconds > math.MaxInt64/float64(time.Second)/2:
		return 0, errors.New("the duration is too long")
	}
	return time.Duration(math.Round(seconds * float64(time.Second))), nil
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} and ${NAME:-default}; $${ stands for ${. A default
// may hold more of them. unset are the names that have neither value nor
// default.
func expand(s string, lookup func(string) (string, bool)) (out string, unset []string, err error) {
	return expandIn(s, lookup, 0)
}

func expandIn(s string, lookup func(string) (string, bool), depth int) (out string, unset []string, err error) {
	if depth > 8 {
		return "", nil, errors.New("${…} stands in the default of another one more than 8 times")
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), unset, nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := closing(s[i+2:])
		if end < 0 {
			return "", nil, errors.New("${ has no }; write $${ for these characters themselves")
		}
		inner := s[i+2 : i+2+end]
		s = s[i+2+end+1:]
		name, other, hasDefault := strings.Cut(inner, ":-")
		if !variable.MatchString(name) {
			return "", nil, errors.New("${…} wants the name of an environment variable, as ${NAME} or ${NAME:-default}; write $${ for these characters themselves")
		}
		v, ok := lookup(name)
		switch {
		case ok && (v != "" || !hasDefault):
			b.WriteString(v)
		case hasDefault:
			def, more, err := expandIn(other, lookup, depth+1)
			if err != nil {
				return "", nil, err
			}
			b.WriteString(def)
			unset = append(unset, more...)
		case !slices.Contains(unset, name):
			unset = append(unset, name)
		}
	}
}

// closing finds the brace that ends what begins after ${.
func closing(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "${"):
			depth++
		case s[i] == '}' && depth == 0:
			return i
		case s[i] == '}':
			depth--
		}
	}
	return -1
}
