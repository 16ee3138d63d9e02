# shellcheck shell=bash
# The public key that `scripts/install --ssh-key FILE` lets in: looked at before anything is changed, named after its
# comment, added. Sourced, never run. `own COMMAND …`, which asks this machine's agent, is the caller's.

key_line() { # FILE: what is in it but for blank lines, remarks and carriage returns
  tr -d '\r' <"$1" | sed '/^[[:space:]]*\(#.*\)\{0,1\}$/d'
}

check_key() { # FILE: refuse what is not one public key
  local line lines
  [[ -f $1 && -r $1 ]] || refuse "$1 cannot be read."
  ! grep -q "PRIVATE KEY" "$1" || refuse "$1 is a private key." "Give the .pub file beside it."
  lines=$(key_line "$1" | wc -l)
  [[ $lines -le 1 ]] ||
    refuse "$1 has $lines keys in it." "Give a file with one, and let the others in afterwards: pushboat ssh-keys:add NAME < key.pub"
  line=$(key_line "$1" | tr -d '\0')
  [[ $line =~ ^(ssh|ecdsa|sk)-[a-z0-9@.-]+[[:space:]]+[A-Za-z0-9+/]+=* ]] ||
    refuse "$1 is not a public key." "Give a file like ~/.ssh/id_ed25519.pub: a type, the key, a comment."
  # A fresh machine has no ssh-keygen yet; there the step that adds the key tells.
  ! command -v ssh-keygen >/dev/null || ssh-keygen -l -f "$1" >/dev/null 2>&1 ||
    refuse "$1 is damaged: ssh-keygen cannot read it." "Copy it once more."
}

# Names of keys have letters, digits and . _ @ + -, 63 at most, and `root` is root on this machine. A comment is free
# text, or missing.
key_name() { # FILE: the name that its comment makes
  local name
  name=$(key_line "$1" | LC_ALL=C sed -E 's/^[^[:space:]]+[[:space:]]+[^[:space:]]+[[:space:]]*//; s/[^A-Za-z0-9._@+-]+/-/g
    s/^[^A-Za-z0-9]+//; s/^(.{1,58}).*/\1/; s/-+$//')
  [[ ${name,,} != root ]] || name=""
  echo "${name:-admin}"
}

add_key() { # FILE: let it in, once. A name that another key has stays that key's
  local print known names wanted name number=1
  print=$(ssh-keygen -l -f "$1" | cut -d ' ' -f 2)
  known=$(own ssh-keys:list --format json | python3 -c '
import json, sys
for key in json.load(sys.stdin):
    print(key["fingerprint"], key["name"])
')
  name=$(sed -n "s|^$print ||p" <<<"$known")
  if [[ -n $name ]]; then
    note="was there already, as $name"
    return
  fi
  names=$(cut -d ' ' -f 2 <<<"$known")
  wanted=$(key_name "$1")
  name=$wanted
  while grep -qxF -e "$name" <<<"$names"; do
    number=$((number + 1))
    name=$wanted-$number
  done
  own ssh-keys:add "$name" <"$1"
  note="added as $name"
  [[ $name == "$wanted" ]] || note="$note; $wanted is another one, which goes by: pushboat ssh-keys:remove $wanted"
}
