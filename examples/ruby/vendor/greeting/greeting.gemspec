Gem::Specification.new do |spec|
  spec.name = "greeting"
  spec.version = "1.0.0"
  spec.summary = "Says hello"
  spec.authors = ["Pushboat"]
  spec.files = ["lib/greeting.rb"]
end
