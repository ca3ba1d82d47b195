package mcphost

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxName is the longest name of a tool that all providers take.
const maxName = 64

// exposedName is the name under which models know a tool: server_tool, as in
// the Python project. It depends on the names of the servers and of this tool
// alone, so that it is the same in every listing, whichever servers are there
// and whatever else they have. Where that name would be too long, is made of
// other characters, or could be read as that of a tool of a server with a
// longer name, it ends with a digest.
func exposedName(servers []string, server, tool, method string) string {
	prefix := plainName(server)
	name := prefix + "_" + plainName(tool)
	clear := prefix == server && plainName(tool) == tool && len(name) <= maxName && method == ""
	for _, other := range servers {
		p := plainName(other)
		// Of two servers that look the same, the one that is written so wins.
		if other != server && len(p) > len(prefix) && strings.HasPrefix(name, p+"_") {
			clear = false
		}
	}
	if clear {
		return name
	}
	return withDigest(name, server, tool, method, 8)
}

// longName is for a tool whose name is taken all the same.
func longName(server, tool, method string) string {
	return withDigest(plainName(server)+"_"+plainName(tool), server, tool, method, 32)
}

func withDigest(name, server, tool, method string, n int) string {
	sum := sha256.Sum256([]byte(server + "\x00" + tool + "\x00" + method))
	return name[:min(len(name), maxName-1-n)] + "_" + hex.EncodeToString(sum[:])[:n]
}

// plainName replaces what a name may not have.
func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, s)
}

// fileName makes a name fit for a tag.
func fileName(s string) string { return plainName(s) }
