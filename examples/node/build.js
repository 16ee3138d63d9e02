// Stands for what a bundler does: it needs a package that the running app does not.
const upperFirst = require('lodash.upperfirst')
require('fs').writeFileSync('built.json', JSON.stringify({ greeting: upperFirst('hello from Node') }))
